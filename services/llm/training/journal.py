"""The log of a run: JSON lines, appended and flushed one by one, so that a kill loses none."""

import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from services.llm.training.config import JsonScalar


@dataclass(slots=True)
class Journal:
    """Appends events to a file and averages losses between two of them.

    Attributes:
        path: JSON lines file; its folder is made.
        losses: Kind of batch to the losses since the last `take`.
        n_tokens: Tokens since the last `take`.
    """

    path: Path
    losses: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    n_tokens: int = 0
    since: float = field(default_factory=time.monotonic)

    def add(self, kind: str, loss: float, n_tokens: int) -> None:
        """Count one batch."""
        self.losses[kind].append(loss)
        self.n_tokens += n_tokens

    def take(self) -> dict[str, JsonScalar]:
        """Mean loss of every kind of batch and tokens per second since the last call."""
        now = time.monotonic()
        means: dict[str, JsonScalar] = {
            f"{kind}_loss": round(sum(losses) / len(losses), 4)
            for kind, losses in self.losses.items()
        }
        means["tokens_per_second"] = round(self.n_tokens / max(now - self.since, 1e-9))
        self.losses, self.n_tokens, self.since = defaultdict(list), 0, now
        return means

    def write(self, event: str, step: int, **values: JsonScalar) -> None:
        """Append one line with the time in Unix seconds."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"event": event, "time": round(time.time(), 1), "step": step, **values})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

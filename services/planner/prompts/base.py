"""What a search asks of a prompt profile."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.contracts.apis import ApiDocument
from services.contracts.llm import FunctionSchema


@dataclass(frozen=True, slots=True)
class Candidate:
    """An action that was already tried at a node."""

    name: str
    arguments: str
    observation: str


class PromptProfile(Protocol):
    """Words around an instruction. Stateless."""

    @property
    def name(self) -> str:
        """What a request calls it, e.g. `compact`."""
        ...

    @property
    def version(self) -> int:
        """Raised whenever a text changes, >= 1."""
        ...

    @property
    def texts(self) -> Mapping[str, str]:
        """Every text of the profile, place holders unfilled."""
        ...

    def system(self, documents: Sequence[ApiDocument]) -> str:
        """The first message: the task, and the tools where the profile lists them."""
        ...

    def user(self, instruction: str) -> str:
        """The instruction as the first user message."""
        ...

    def diversity(self, candidates: Sequence[Candidate], *, observation: str) -> str:
        """Ask for an action that differs from earlier ones.

        The candidates stand in it as one JSON array, with no `[` before it.

        Args:
            candidates: Earlier actions at the node that is expanded again, oldest first.
            observation: That node's own observation, possibly empty.
        """
        ...

    def finish(self) -> FunctionSchema:
        """The function that ends a trajectory."""
        ...


def fingerprint(texts: Mapping[str, str]) -> str:
    """SHA-256 of named texts, in hexadecimal digits; their order does not matter."""
    canonical = json.dumps(dict(texts), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()

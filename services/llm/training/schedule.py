"""Warm-up, stable, decay: a learning rate whose run can be ended at any time by a short decay.

Source: Hu et al. 2024, "MiniCPM", section 4 (WSD), with the square-root decay of Hägele et al.
2024. Cosine would need the length of the run in advance; ours ends when the wall clock says so.
"""

import math
from dataclasses import dataclass


@dataclass(slots=True)
class Schedule:
    """Where a run stands between its start and its end.

    Attributes:
        warmup_steps: Steps of linear warm-up.
        decay_fraction: Part of the run that the decay takes.
        max_steps: End in steps, or `None`.
        stop_at: End in Unix seconds, or `None`.
        started_at: Unix seconds at which this process began; the decay's length is measured from
            it.
        floor: Fraction of the peak rate at which the run ends.
    """

    warmup_steps: int
    decay_fraction: float
    max_steps: int | None
    stop_at: float | None
    started_at: float
    floor: float = 0.02

    def progress(self, step: int, now: float) -> float:
        """Part of the run that is over, at least 1.0 when it must end; the sooner end counts."""
        by_steps = step / self.max_steps if self.max_steps else 0.0
        by_clock = 0.0
        if self.stop_at is not None:
            by_clock = (now - self.started_at) / max(self.stop_at - self.started_at, 1e-9)
        return max(by_steps, by_clock)

    def factor(self, step: int, now: float) -> float:
        """Multiplier of the peak learning rates at this step, in [floor, 1]."""
        warmup = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        decayed = (self.progress(step, now) - (1.0 - self.decay_fraction)) / self.decay_fraction
        decay = 1.0 - math.sqrt(min(max(decayed, 0.0), 1.0))
        return max(warmup * decay, self.floor)

    def is_decaying(self, step: int, now: float) -> bool:
        """Whether the final decay has begun."""
        return self.progress(step, now) > 1.0 - self.decay_fraction

    def is_over(self, step: int, now: float) -> bool:
        """Whether the run must end."""
        return self.progress(step, now) >= 1.0

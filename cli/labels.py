"""Where an answer came from, on one line of stderr, so that stdout holds the answer alone."""

from services.contracts.toolenv import Attempt, Observation

_MAX_REASON_CHARS = 120
_KEY_CHARS = 12  # enough to find a recording with `cassettes show`
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))


def label_of(observation: Observation) -> str:
    """Status, source and all that is known about how the answer was obtained."""
    parts = [f"{observation.status} from {_source(observation)}"]
    if observation.age_s is not None:
        parts.append(f"recorded {_age(observation.age_s)} ago")
    if observation.upstream_status is not None:
        parts.append(f"upstream HTTP {observation.upstream_status}")
    parts.append(f"{observation.latency_s * 1e3:.1f} ms")
    if observation.key is not None:
        parts.append(f"key {observation.key[:_KEY_CHARS]}")
    if observation.retry_after_s is not None:
        parts.append(f"retry after {observation.retry_after_s:g} s")
    if observation.is_recorded is not None:
        parts.append("recorded" if observation.is_recorded else "not recorded")
    if observation.overflow_ref is not None:
        parts.append(f"whole answer {observation.overflow_ref}")
    parts += [f"before it {_attempt(attempt)}" for attempt in observation.attempts]
    return " | ".join(parts)


def _source(observation: Observation) -> str:
    if observation.source == "simulated":
        return "simulated (a language model played the API)"
    if observation.source == "replay":
        return f"replay (of {observation.recorded_source or 'an unknown source'})"
    if observation.source == "error" and observation.tried is not None:
        return f"{observation.tried} (failed)"
    return observation.source


def _attempt(attempt: Attempt) -> str:
    outcome = "declined" if attempt.status is None else attempt.status.value
    reason = "".join(char if char.isprintable() else " " for char in attempt.reason)
    return f"{attempt.source} {outcome}: {reason[:_MAX_REASON_CHARS]}"


def _age(seconds: float) -> str:
    unit, length = next(((u, n) for u, n in _UNITS if seconds >= 2 * n), ("s", 1))
    return f"{seconds / length:.0f} {unit}"

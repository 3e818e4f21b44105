"""Bounds how many requests are in work or waiting, so that overload is refused and not piled up."""

from collections.abc import Iterator
from contextlib import contextmanager

from services.contracts.errors import ResourceExhausted


class Admission:
    """A counter with a limit. Belongs to one event loop."""

    def __init__(self, *, max_inside: int) -> None:
        """Admit at most `max_inside` requests at a time, >= 1."""
        self._max_inside = max_inside
        self._inside = 0

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Count a request as inside for the block.

        Raises:
            ResourceExhausted: The limit is reached.
        """
        if self._inside >= self._max_inside:
            raise ResourceExhausted(
                f"{self._inside} requests are in work or waiting, the limit is {self._max_inside}; "
                "try again later or raise LLM_MAX_QUEUE"
            )
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

"""What a search asks of a prompt profile."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.contracts.apis import ApiDocument


@dataclass(frozen=True, slots=True)
class Candidate:
    """An action that was already tried at a node."""

    name: str
    arguments: str
    observation: str


class PromptProfile(Protocol):
    """Words around an instruction. Stateless."""

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

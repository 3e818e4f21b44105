"""What the service expects of any engine: a `ChatModel` that can describe itself."""

from typing import Protocol

from services.contracts.llm import ChatModel, ModelInfo


class Engine(ChatModel, Protocol):
    """One loaded or remote model."""

    @property
    def info(self) -> ModelInfo:
        """Name and properties of the model, as far as they are known without asking anybody."""
        ...

    async def check_ready(self) -> None:
        """Return when the model can answer.

        Raises:
            Unavailable: It cannot at the moment.
        """
        ...

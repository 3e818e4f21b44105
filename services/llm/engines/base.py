"""What the service expects of any engine: a `ChatModel` that can describe itself."""

from typing import Protocol

from services.contracts.base import ForeignModel
from services.contracts.llm import ChatModel


class ModelInfo(ForeignModel):
    """Which model answers, for people and for run records; answer of `GET /v1/model`."""

    model: str
    engine: str
    """`transformers` or `openai`."""
    dialect: str
    """How conversations become text: `openai` when the backend does it itself."""
    constrain: str = "none"
    """Part of a reply that decoding forces to be valid: `none`, `names` or `values`."""
    context_tokens: int | None = None
    """Prompt and reply together; `None` when the backend does not say."""


class Engine(ChatModel, Protocol):
    """One loaded or remote model."""

    @property
    def info(self) -> ModelInfo:
        """Name and properties of the model."""
        ...

    async def check_ready(self) -> None:
        """Return when the model can answer.

        Raises:
            Unavailable: It cannot at the moment.
        """
        ...

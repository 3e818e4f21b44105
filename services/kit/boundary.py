"""The one place where a foreign exception becomes a `ServiceError`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.contracts.errors import ServiceError


@asynccontextmanager
async def attribute_to(error: type[ServiceError], what: str) -> AsyncIterator[None]:
    """Blame everything that escapes the block on one boundary, once.

    A `ServiceError` passes unchanged: it was attributed at a more specific boundary already.

    Args:
        error: Class that names the boundary, e.g. `Unavailable`.
        what: The operation, for the message: "load corpus", "open sandbox".
    """
    try:
        yield
    except ServiceError:
        raise
    except Exception as exc:
        raise error(f"{what}: {type(exc).__name__}: {exc}") from exc

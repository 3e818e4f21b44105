"""Keeps the index up with a catalogue that changes by itself (`TOOLENV_WATCH_S`)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog

from services.contracts.apis import ApiDocument
from services.contracts.errors import Internal, ServiceError
from services.contracts.retriever import Retriever
from services.contracts.toolenv import ToolEnv
from services.kit.boundary import attribute_to

log = structlog.get_logger()


@asynccontextmanager
async def following(
    retriever: Retriever, toolenv: ToolEnv, indexed: Sequence[ApiDocument], *, period_s: float
) -> AsyncIterator[None]:
    """Index the catalogue again whenever it has changed, for as long as the context is open.

    A change that cannot be indexed is logged and tried again; the index in force stays.

    Args:
        retriever: Whose index follows.
        toolenv: Whose catalogue is followed.
        indexed: What is indexed already.
        period_s: Seconds between two looks.
    """
    known = tuple(indexed)

    async def follow() -> None:
        nonlocal known
        while True:
            await asyncio.sleep(period_s)
            try:
                async with attribute_to(Internal, "follow the catalogue"):
                    # Documents that did not change are the same objects, so this costs little.
                    now = tuple(await toolenv.catalogue())
                    if now != known:
                        await retriever.index(now)
                        known = now
            except ServiceError as exc:
                log.warning("catalogue_not_indexed", reason=exc.detail)

    group = asyncio.TaskGroup()
    await group.__aenter__()
    task = group.create_task(follow(), name="follow-catalogue")
    try:
        yield
    finally:
        task.cancel()
        # Not told of the block's own exception, which it would wrap in a group.
        await group.__aexit__(None, None, None)

"""Recorded answers as examples for a simulator."""

import asyncio
import json
from collections.abc import Sequence

from services.contracts.apis import ApiRef
from services.toolenv.cassettes.rows import Filter
from services.toolenv.cassettes.store import Store
from services.toolenv.executors.simulation import Example

_MAX_CONTENT_CHARS = 65_536  # of longer ones nothing would be shown, and they cost time to parse


class RecordedExamples:
    """See `simulated.Examples`; in the order of their keys, which does not depend on time."""

    def __init__(self, store: Store) -> None:
        """Read from a store; whoever opened it closes it."""
        self._store = store

    async def __call__(self, ref: ApiRef, limit: int) -> Sequence[Example]:
        """Examples of one API, at most `limit`."""
        return await asyncio.to_thread(self._read, ref, limit)

    def _read(self, ref: ApiRef, limit: int) -> list[Example]:
        wanted = Filter(category=ref.category, tool=ref.tool, api=ref.api)
        return [
            (json.loads(recording.arguments), json.loads(recording.content))
            for recording in self._store.recordings(wanted, order="key", limit=limit)
            if len(recording.content) <= _MAX_CONTENT_CHARS
        ]

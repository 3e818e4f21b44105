"""The catalogue in force, replaced as a whole when tools are added, removed or changed."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from services.contracts.apis import ApiRef
from services.toolenv.catalog import Catalogue


class CatalogueChange(NamedTuple):
    """What a reload did, addresses in order."""

    added: tuple[ApiRef, ...]
    removed: tuple[ApiRef, ...]
    changed: tuple[ApiRef, ...]


class Registry:
    """Holds one immutable `Catalogue` at a time; calls in flight keep the entry they began with."""

    def __init__(self, load: Callable[[], Catalogue]) -> None:
        """Load the first catalogue; blocking file access.

        Args:
            load: Reads the catalogue from its sources.
        """
        self._load = load
        self._lock = asyncio.Lock()
        self.current = load()

    @classmethod
    def fixed(cls, catalogue: Catalogue) -> "Registry":
        """A registry that always holds this catalogue."""
        return cls(lambda: catalogue)

    async def reload(self) -> CatalogueChange:
        """Read the sources again and put the result in force at once.

        Raises:
            FailedPrecondition: A source as a whole cannot be read; the catalogue in force stays.
        """
        async with self._lock:
            before = {entry.document.ref: entry for entry in self.current.entries()}
            self.current = await asyncio.to_thread(self._load)
            after = {entry.document.ref: entry for entry in self.current.entries()}
        return CatalogueChange(
            added=tuple(ref for ref in after if ref not in before),
            removed=tuple(ref for ref in before if ref not in after),
            changed=tuple(ref for ref in after if ref in before and after[ref] != before[ref]),
        )

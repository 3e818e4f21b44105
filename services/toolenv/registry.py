"""The catalogue in force, replaced as a whole when tools are added, removed or changed."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from services.contracts.apis import ApiRef
from services.contracts.errors import Internal, ServiceError
from services.contracts.toolenv import CatalogueChange
from services.kit.boundary import attribute_to
from services.toolenv.catalog import Catalogue, load_catalogue
from services.toolenv.documents import Refusal
from services.toolenv.effects import EffectBook
from services.toolenv.pins import Pins, Quarantined

log = structlog.get_logger()

_MAX_WATCHED = 100_000  # files; beyond that the watcher would be busy all the time


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one load gave."""

    catalogue: Catalogue
    quarantined: Mapping[tuple[str, str], Quarantined] = field(default_factory=dict)
    """Tools that are not offered, by category and tool."""


def load_pinned(
    *,
    trusted_roots: Sequence[Path],
    roots: Sequence[Path],
    pins: Pins | None,
    effects: EffectBook | None = None,
) -> Snapshot:
    """Read the tools of several roots, and hold back those whose descriptor changed.

    Args:
        trusted_roots: Shipped by the operator: exempt from pinning, and nobody below `roots` can
            take the place of one of their tools.
        roots: Everybody else's.
        pins: `None` pins nothing.
        effects: Corrections of side effects, which no pin is about; `None` corrects nothing.

    Raises:
        FailedPrecondition: A root, the pins or the corrections cannot be read.
    """
    trusted = load_catalogue(trusted_roots)
    found = load_catalogue(roots)
    owned = {(entry.document.ref.category, entry.document.ref.tool) for entry in trusted.entries()}
    free, shadows = [], dict[tuple[str, str], None]()
    for entry in found.entries():
        key = (entry.document.ref.category, entry.document.ref.tool)
        if key in owned:
            shadows[key] = None
        else:
            free.append(entry)
    refusals = [
        Refusal(f"{category}/{tool}.json", "file", "a tool of this name is shipped", "rename it")
        for category, tool in shadows
    ]
    own = Catalogue(free, (*found.refusals, *refusals))
    quarantined: Mapping[tuple[str, str], Quarantined] = {}
    if pins is not None:
        own, quarantined = pins.admit(own)
    merged = Catalogue([*trusted.entries(), *own.entries()], (*trusted.refusals, *own.refusals))
    return Snapshot(merged if effects is None else effects.applied(merged), quarantined)


class Registry:
    """Holds one immutable `Catalogue` at a time; calls in flight keep the entry they began with."""

    def __init__(self, load: Callable[[], Catalogue | Snapshot]) -> None:
        """Load the first catalogue; blocking file access.

        Args:
            load: Reads the catalogue from its sources, e.g. `load_pinned`.
        """
        self._load = load
        self._lock = asyncio.Lock()
        self._snapshot = _snapshot(load())

    @classmethod
    def fixed(cls, catalogue: Catalogue) -> "Registry":
        """A registry that always holds this catalogue."""
        return cls(lambda: catalogue)

    @property
    def current(self) -> Catalogue:
        """The catalogue in force."""
        return self._snapshot.catalogue

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """Tools that are not offered because their descriptor changed, by name."""
        found = self._snapshot.quarantined
        return tuple(found[key] for key in sorted(found))

    def explain_missing(self, ref: ApiRef) -> str | None:
        """Why an API that is not in the catalogue is held back; `None` when it is not."""
        found = self._snapshot.quarantined.get((ref.category, ref.tool))
        return None if found is None else found.reason

    async def reload(self) -> CatalogueChange:
        """Read the sources again and put the result in force at once.

        Raises:
            FailedPrecondition: A source as a whole cannot be read; the catalogue in force stays.
        """
        async with self._lock:
            before = {entry.document.ref: entry for entry in self.current.entries()}
            self._snapshot = _snapshot(await asyncio.to_thread(self._load))
            after = {entry.document.ref: entry for entry in self.current.entries()}
        return CatalogueChange(
            added=tuple(ref for ref in after if ref not in before),
            removed=tuple(ref for ref in before if ref not in after),
            changed=tuple(ref for ref in after if ref in before and after[ref] != before[ref]),
            refused=tuple(str(refusal) for refusal in self.current.refusals),
        )


@asynccontextmanager
async def watching(
    registry: Registry, paths: Sequence[Path], *, period_s: float
) -> AsyncIterator[None]:
    """Reload the registry when files below `paths` change, for as long as the context is open.

    Polls names, sizes and times; works on every file system, shared ones included. A reload that
    fails is logged, and the catalogue in force stays.

    Args:
        registry: What to reload.
        paths: Tools roots, and files such as the pins.
        period_s: Seconds between two looks, at least 0.05.
    """
    period_s = max(period_s, 0.05)
    seen = await asyncio.to_thread(_fingerprint, paths)

    async def watch() -> None:
        nonlocal seen
        while True:
            await asyncio.sleep(period_s)
            now = await asyncio.to_thread(_fingerprint, paths)
            if now == seen:
                continue
            seen = now
            try:
                async with attribute_to(Internal, "reload"):
                    change = await registry.reload()
            except ServiceError as exc:
                log.warning("catalogue_not_reloaded", reason=exc.detail)
            else:
                log.info(
                    "catalogue_reloaded",
                    added=len(change.added),
                    removed=len(change.removed),
                    changed=len(change.changed),
                )

    group = asyncio.TaskGroup()
    await group.__aenter__()
    task = group.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
        # Not told of the block's own exception, which it would wrap in a group.
        await group.__aexit__(None, None, None)


def _fingerprint(paths: Sequence[Path]) -> int:
    """A number that changes when a document, code or definition below the paths does."""
    found: list[tuple[str, int, int, int]] = []
    for path in paths:
        _collect(str(path), found, depth=3)
    return hash(tuple(found))


def _collect(path: str, found: list[tuple[str, int, int, int]], *, depth: int) -> None:
    if len(found) >= _MAX_WATCHED:
        return
    with suppress(OSError):
        state = os.stat(path)
        found.append((path, state.st_mtime_ns, state.st_size, state.st_ino))
        if depth and os.path.isdir(path):
            names = sorted(name for name in os.listdir(path) if name[0] not in "._")
            for name in names:
                _collect(os.path.join(path, name), found, depth=depth - 1)


def _snapshot(loaded: Catalogue | Snapshot) -> Snapshot:
    return loaded if isinstance(loaded, Snapshot) else Snapshot(loaded)

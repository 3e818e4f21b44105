"""Hot changes of the catalogue, against real files."""

import asyncio
import json
from pathlib import Path

import pytest

from services.contracts.apis import ApiRef
from services.contracts.errors import FailedPrecondition
from services.toolenv.catalog import Catalogue, load_catalogue
from services.toolenv.pins import Pins
from services.toolenv.registry import Registry, load_pinned, watching


def write(root: Path, tool: str, description: str = "d") -> Path:
    path = root / "Weather" / f"{tool}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"tool_name": tool, "api_list": [{"name": "get", "description": description}]}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def ref(tool: str) -> ApiRef:
    return ApiRef(category="Weather", tool=tool, api="get")


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    """The shipped root and the user's."""
    for name in ("shipped", "user"):
        (tmp_path / name).mkdir()
    return tmp_path / "shipped", tmp_path / "user"


def pinned(roots: tuple[Path, Path], tmp_path: Path) -> Registry:
    shipped, user = roots
    pins = Pins(tmp_path / "toolenv")
    return Registry(lambda: load_pinned(trusted_roots=(shipped,), roots=(user,), pins=pins))


def test_a_reload_tells_what_was_added_removed_changed_and_refused(tmp_path: Path) -> None:
    write(tmp_path, "old")
    write(tmp_path, "same")
    write(tmp_path, "other")
    registry = Registry(lambda: load_catalogue((tmp_path,)))
    (tmp_path / "Weather/old.json").unlink()
    write(tmp_path, "other", "changed")
    write(tmp_path, "new")
    (tmp_path / "Weather/broken.json").write_text("{", encoding="utf-8")
    change = asyncio.run(registry.reload())
    assert change.added == (ref("new"),)
    assert change.removed == (ref("old"),)
    assert change.changed == (ref("other"),)
    assert "Weather/broken.json" in change.refused[0]


def test_calls_in_flight_keep_the_entry_they_began_with(tmp_path: Path) -> None:
    write(tmp_path, "one", "before")
    registry = Registry(lambda: load_catalogue((tmp_path,)))
    before = registry.current
    write(tmp_path, "one", "after")
    asyncio.run(registry.reload())
    assert before.get(ref("one")).document.description == "before"
    assert registry.current.get(ref("one")).document.description == "after"


def test_a_source_that_cannot_be_read_leaves_the_catalogue_in_force(tmp_path: Path) -> None:
    root = tmp_path / "tools"
    write(root, "one")
    registry = Registry(lambda: load_catalogue((root,)))
    root.rename(tmp_path / "away")
    with pytest.raises(FailedPrecondition):
        asyncio.run(registry.reload())
    assert registry.current.get(ref("one")) is not None


def test_a_fixed_registry_reloads_to_the_same() -> None:
    registry = Registry.fixed(Catalogue())
    assert asyncio.run(registry.reload()).added == ()
    assert registry.quarantined == ()


def test_a_changed_tool_of_a_user_is_held_back_and_named_until_it_is_approved(
    roots: tuple[Path, Path], tmp_path: Path
) -> None:
    write(roots[1], "one", "before")
    registry = pinned(roots, tmp_path)
    write(roots[1], "one", "after")
    change = asyncio.run(registry.reload())
    assert change.removed == (ref("one"),)
    assert registry.current.get(ref("one")) is None
    assert "toolwright tools approve Weather/one" in (registry.explain_missing(ref("one")) or "")
    (held,) = registry.quarantined
    Pins(tmp_path / "toolenv").approve(
        "Weather/one", load_catalogue((roots[1],)), sha256=held.found_sha256
    )
    assert asyncio.run(registry.reload()).added == (ref("one"),)
    assert registry.explain_missing(ref("one")) is None


def test_a_shipped_tool_may_change_and_nobody_can_take_its_place(
    roots: tuple[Path, Path], tmp_path: Path
) -> None:
    write(roots[0], "one", "before")
    registry = pinned(roots, tmp_path)
    write(roots[0], "one", "after")
    write(roots[1], "one", "impostor")
    change = asyncio.run(registry.reload())
    assert registry.current.get(ref("one")).document.description == "after"
    assert "is shipped" in change.refused[0]
    assert Pins(tmp_path / "toolenv").read() == {}


def test_concurrent_reloads_and_readers_see_whole_catalogues(tmp_path: Path) -> None:
    for number in range(20):
        write(tmp_path, f"tool_{number}")
    registry = Registry(lambda: load_catalogue((tmp_path,)))

    async def body() -> set[int]:
        sizes = set()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(registry.reload()) for _ in range(5)]
            for _ in range(50):
                sizes.add(len(registry.current))
                await asyncio.sleep(0.001)
        assert all(task.done() for task in tasks)
        return sizes

    assert asyncio.run(body()) == {20}


async def until(registry: Registry, tool: str, *, present: bool) -> None:
    async with asyncio.timeout(20):
        while (registry.current.get(ref(tool)) is not None) is not present:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def test_the_watcher_takes_up_changes_and_survives_a_root_that_vanishes(tmp_path: Path) -> None:
    root = tmp_path / "tools"
    write(root, "one")
    registry = Registry(lambda: load_catalogue((root,)))

    async def body() -> None:
        async with watching(registry, (root,), period_s=0.05):
            write(root, "two")
            await until(registry, "two", present=True)
            root.rename(tmp_path / "away")
            await asyncio.sleep(0.2)
            assert registry.current.get(ref("two")) is not None
            (tmp_path / "away").rename(root)
            (root / "Weather/one.json").unlink()
            await until(registry, "one", present=False)

    asyncio.run(body())


def test_the_watcher_ends_with_its_context_and_lets_errors_through(tmp_path: Path) -> None:
    registry = Registry.fixed(Catalogue())

    async def body() -> None:
        async with watching(registry, (tmp_path,), period_s=10):
            raise KeyError("mine")

    with pytest.raises(KeyError):
        asyncio.run(asyncio.wait_for(body(), 5))

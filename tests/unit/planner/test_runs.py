"""Kept runs: what was recorded is neither asked nor done again."""

import asyncio
import json
import os
import random
import resource
import stat
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from services.contracts.apis import ApiRef
from services.contracts.compat import TOOLBENCH
from services.contracts.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from services.contracts.llm import ChatRequest, Message
from services.contracts.planner import (
    ApprovalAsked,
    Limits,
    ModelReplied,
    PlanEvent,
    ToolFinished,
)
from services.planner.journal.file import is_going_on
from services.planner.journal.keys import ConversationKeys
from services.planner.journal.lines import sealed
from services.planner.journal.shelf import Shelf
from services.planner.service import PlannerService
from tests.fakes.kept_runs import World, drawn, heard, request
from tests.fakes.planner_ports import (
    HELLO,
    HELLO_NAME,
    FakeToolEnv,
    ScriptedModel,
    answer,
    document,
    end_of,
    reply,
)

pytestmark = pytest.mark.anyio


def replies_of(events: Sequence[PlanEvent]) -> list[Message]:
    return [event.message for event in events if isinstance(event, ModelReplied)]


def write_then_answer(request: ChatRequest) -> Message:
    """One call, and then the answer."""
    if any(message.role == "tool" for message in request.messages):
        return answer("done")
    return reply((HELLO_NAME, "{}"))


METHODS = [
    "DFS_woFilter_w2",
    "CoT@2",
    "DFS_w2",
    "BFS_w2",
    "Reflexion@2",
    "BestFirst_w3",
    "UCT_vote",
    "LATS_w3",
    "ReWOO",
    "LLMCompiler",
    "BabyAGI",
    "CREATOR",
    "AgentVerse",
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", ["exact", "parallel", "speculative"])
@pytest.mark.parametrize("seed", [0, 3])
async def test_a_replay_tells_the_same_events_and_asks_nobody(
    tmp_path: Path, method: str, mode: str, seed: int
) -> None:
    world = World(tmp_path, drawn(seed))
    told = await heard(world.planner().solve(request(method, mode=mode)))
    asked = world.asked
    replayed = await heard(world.planner().replay("r"))
    assert replayed == told
    assert end_of(replayed).record == end_of(told).record
    assert world.asked == asked


@pytest.mark.parametrize(
    "changes",
    [
        {"show_budget": True},
        {"apis": None},
        {"limits": Limits(deadline_s=0.12)},
        {"compat": TOOLBENCH},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_time_and_chance_are_told_as_they_were(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    world = World(tmp_path, drawn(3), delay_s=0.01)
    planner = world.planner(stream_model=True)
    told = await heard(planner.solve(request(**changes)))
    asked = world.asked
    assert await heard(world.planner().replay("r")) == told
    assert world.asked == asked


async def test_answers_that_came_at_once_come_in_the_recorded_order(tmp_path: Path) -> None:
    world = World(tmp_path, drawn(3), delay_s=0.01)
    asked = request("BFS_w3", mode="parallel")
    told = await heard(world.planner().solve(asked))
    assert await heard(world.planner().replay("r")) == told


async def test_a_run_that_its_deadline_ended_replays_that_end(tmp_path: Path) -> None:
    world = World(tmp_path, drawn(3), delay_s=0.03)
    limits = Limits(deadline_s=0.1, max_depth=50)
    told = await heard(world.planner().solve(request(limits=limits)))
    assert end_of(told).limit == "deadline_s"
    assert await heard(world.planner().replay("r")) == told


@pytest.mark.parametrize("approve", [True, False, None])
async def test_a_replay_asks_nobody_for_approval(tmp_path: Path, approve: bool | None) -> None:
    writes = FakeToolEnv([document(HELLO, method="POST")])
    world = World(tmp_path, write_then_answer, toolenv=writes)
    planner = world.planner(approval_timeout_s=0.05)
    told = []
    async for event in planner.solve(request("CoT@1", apis=(HELLO,), ask_approval=True)):
        told.append(event)
        if isinstance(event, ApprovalAsked) and approve is not None:
            await planner.decide("r", event.call_id, approve=approve)
    assert any(isinstance(event, ApprovalAsked) for event in told)
    async with asyncio.timeout(2):
        assert await heard(world.planner().replay("r")) == told
    assert len(writes.calls) == (approve is True)


@pytest.mark.parametrize("mode", ["exact", "parallel"])
@pytest.mark.parametrize("method", ["DFS_woFilter_w2", "CoT@2"])
async def test_a_run_that_died_after_any_line_comes_to_the_same_end(
    tmp_path: Path, method: str, mode: str
) -> None:
    world = World(tmp_path, drawn(3))
    told = await heard(world.planner().solve(request(method, mode=mode)))
    total, lines = world.asked, world.file("r").read_bytes().splitlines(keepends=True)
    assert total[0] >= 5
    for kept in range(1, len(lines)):
        world.file("r").write_bytes(b"".join(lines[:kept]))
        known = [json.loads(line)["kind"] for line in lines[:kept]]
        before = world.asked
        resumed = await heard(world.planner().resume("r"))
        asked = tuple(now - then for now, then in zip(world.asked, before, strict=True))
        assert asked == (total[0] - known.count("model"), total[1] - known.count("tool"))
        assert end_of(resumed).record == end_of(told).record
        assert await heard(world.planner().replay("r")) == resumed


async def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    world = World(tmp_path, drawn(3))
    told = await heard(world.planner().solve(request()))
    whole = world.file("r").read_bytes()
    start = whole.index(b"\n") + 1
    for cut in random.Random(0).sample(range(start, len(whole) - 1), 15):
        world.file("r").write_bytes(whole[:cut])
        resumed = await heard(world.planner().resume("r"))
        assert end_of(resumed).record == end_of(told).record


async def test_what_follows_a_damaged_line_is_asked_again(tmp_path: Path) -> None:
    world = World(tmp_path, drawn(3))
    told = await heard(world.planner().solve(request()))
    lines = world.file("r").read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b"model", b"modem")
    world.file("r").write_bytes(b"".join(lines))
    resumed = await heard(world.planner().resume("r"))
    assert end_of(resumed).record == end_of(told).record
    assert b"modem" not in world.file("r").read_bytes()


async def test_a_run_that_has_ended_is_not_resumed(tmp_path: Path) -> None:
    world = World(tmp_path)
    await heard(world.planner().solve(request()))
    with pytest.raises(FailedPrecondition, match="has ended"):
        await heard(world.planner().resume("r"))


async def test_a_run_that_goes_on_is_not_resumed(tmp_path: Path) -> None:
    world = World(tmp_path)
    events = world.planner().solve(request())
    async with aclosing(events):
        await anext(events)
        with pytest.raises(FailedPrecondition, match="is going on now"):
            await heard(world.planner().resume("r"))


async def test_a_run_that_was_left_can_go_on(tmp_path: Path) -> None:
    told = await heard(World(tmp_path / "whole").planner().solve(request()))
    world = World(tmp_path)
    events = world.planner().solve(request())
    async with aclosing(events):
        for _ in range(9):
            await anext(events)
    (left,) = await world.planner().runs()
    resumed = await heard(world.planner().resume("r"))
    assert left.kind == "cancelled"
    assert end_of(resumed).record == end_of(told).record


async def test_a_run_whose_model_failed_can_go_on(tmp_path: Path) -> None:
    told = await heard(World(tmp_path / "whole").planner().solve(request()))
    world = World(tmp_path)
    whole, world.model = world.model, ScriptedModel([*replies_of(told)[:3], Unavailable("gone")])
    failed = await heard(world.planner().solve(request()))
    world.model = whole
    resumed = await heard(world.planner().resume("r"))
    assert end_of(failed).kind == "failed"
    assert end_of(resumed).record == end_of(told).record
    assert len(whole.requests) == end_of(told).llm_calls - 3


async def test_a_failed_run_replays_its_failure(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.model = ScriptedModel([Unavailable("gone")])
    failed = await heard(world.planner().solve(request()))
    assert await heard(world.planner().replay("r")) == failed


async def test_a_change_that_was_begun_is_not_made_again(tmp_path: Path) -> None:
    writes = [document(HELLO, method="POST")]
    world = World(tmp_path, write_then_answer, toolenv=FakeToolEnv(writes))
    asked = request("CoT@1", apis=(HELLO,), allow_writes=True)
    await heard(world.planner().solve(asked))
    lines = world.file("r").read_bytes().splitlines(keepends=True)
    kinds = [json.loads(line)["kind"] for line in lines]
    world.file("r").write_bytes(b"".join(lines[: kinds.index("intent") + 1]))
    resumed = await heard(world.planner().resume("r"))
    (finished,) = [e for e in resumed if isinstance(e, ToolFinished) and e.source is not None]
    assert len(world.toolenv.calls) == 1
    assert "whether it took effect is not known" in finished.observation
    assert await heard(world.planner().replay("r")) == resumed


async def test_reads_are_not_announced(tmp_path: Path) -> None:
    world = World(tmp_path)
    await heard(world.planner().solve(request()))
    assert b'"intent"' not in world.file("r").read_bytes()


async def test_a_change_that_cannot_be_announced_is_refused(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    writes = [document(HELLO, method="POST")]
    world = World(tmp_path, write_then_answer, toolenv=FakeToolEnv(writes))
    events = world.planner().solve(request("CoT@1", apis=(HELLO,), allow_writes=True))
    async with aclosing(events):
        await anext(events)
        resource.setrlimit(resource.RLIMIT_FSIZE, (world.file("r").stat().st_size, limits[1]))
        try:
            end = end_of([event async for event in events])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert end.kind == "failed"
    assert end.problem is not None and "not made" in end.problem.detail
    assert not world.toolenv.calls


async def test_a_full_disk_ends_the_keeping_and_not_the_run(tmp_path: Path) -> None:
    told = await heard(World(tmp_path / "whole").planner().solve(request()))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    world = World(tmp_path)
    events = world.planner().solve(request())
    async with aclosing(events):
        await anext(events)
        resource.setrlimit(resource.RLIMIT_FSIZE, (world.file("r").stat().st_size + 99, limits[1]))
        try:
            end = end_of([event async for event in events])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not end.is_kept
    assert end.record == end_of(told).record
    assert end_of(await heard(world.planner().resume("r"))).record == end.record


async def test_a_replay_with_another_planner_says_what_differs(tmp_path: Path) -> None:
    world = World(tmp_path, drawn(3))
    await heard(world.planner().solve(request()))
    lines = world.file("r").read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if b'"kind":"model"' not in line]
    world.file("r").write_bytes(b"".join(kept))
    with pytest.raises(FailedPrecondition, match="no answer of port 'model'.* made by planner"):
        await heard(world.planner().replay("r"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "in format 99"),
        ({"request": {"instruction": "x", "colour": "red"}}, "cannot read"),
        ({"kind": "letter"}, "no journal"),
    ],
)
async def test_a_foreign_journal_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    world = World(tmp_path)
    await heard(world.planner().solve(request()))
    header = json.loads(world.file("r").read_bytes().splitlines()[0])
    world.file("r").write_bytes(sealed(json.dumps(header | change)))
    for events in (world.planner().replay("r"), world.planner().resume("r")):
        with pytest.raises(FailedPrecondition, match=message):
            await heard(events)


async def test_a_run_that_cannot_be_resumed_here_stays(tmp_path: Path) -> None:
    world = World(tmp_path)
    await heard(world.planner().solve(request()))
    header = json.loads(world.file("r").read_bytes().splitlines()[0])
    header["request"]["method"] = "lab.gone"
    world.file("r").write_bytes(sealed(json.dumps(header)))
    with pytest.raises(InvalidArgument, match="no method 'lab.gone'"):
        await heard(world.planner().resume("r"))
    assert world.file("r").exists()


async def test_what_is_not_kept_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="'nobody'"):
        await heard(World(tmp_path).planner().replay("nobody"))


async def test_a_run_id_is_used_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    await heard(world.planner().solve(request()))
    with pytest.raises(FailedPrecondition, match="is kept already"):
        await heard(world.planner().solve(request()))


async def test_a_refused_request_leaves_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    unknown = ApiRef(category="a", tool="b", api="c")
    with pytest.raises(InvalidArgument):
        await heard(world.planner().solve(request(apis=(unknown,))))
    assert not world.file("r").exists()


async def test_the_oldest_runs_make_room(tmp_path: Path) -> None:
    world = World(tmp_path)
    planner = PlannerService(
        model=world.model,
        toolenv=world.toolenv,
        retriever=None,
        shelf=Shelf(tmp_path, keep_runs=2),
    )
    for number in range(4):
        await heard(planner.solve(request(run_id=f"r{number}")))
    assert [run.run_id for run in await planner.runs()] == ["r3", "r2"]


def test_a_journal_that_another_run_removed_meanwhile_is_not_going_on(tmp_path: Path) -> None:
    assert not is_going_on(tmp_path / "gone.jsonl")


async def test_old_runs_make_room_for_bytes_too(tmp_path: Path) -> None:
    world = World(tmp_path)
    await heard(world.planner().solve(request(run_id="r0")))
    os.utime(world.file("r0"), ns=(0, 0))
    await heard(world.planner().solve(request(run_id="r1")))
    size = world.file("r1").stat().st_size
    shelf = Shelf(tmp_path, keep_bytes=size)
    planner = PlannerService(model=world.model, toolenv=world.toolenv, retriever=None, shelf=shelf)
    await heard(planner.solve(request(run_id="r2")))
    assert {run.run_id for run in await planner.runs()} == {"r1", "r2"}


async def test_a_summary_says_what_came_of_a_run(tmp_path: Path) -> None:
    world = World(tmp_path)
    end = end_of(await heard(world.planner().solve(request())))
    (summary,) = await world.planner().runs()
    assert (summary.run_id, summary.kind, summary.method) == ("r", end.kind, "DFS_woFilter_w2")
    assert (summary.llm_calls, summary.tool_calls) == (end.llm_calls, end.tool_calls)


async def test_a_journal_is_its_owners_alone(tmp_path: Path) -> None:
    world = World(tmp_path)
    await heard(world.planner().solve(request()))
    assert stat.S_IMODE(world.file("r").stat().st_mode) == 0o600


async def test_what_was_guessed_ahead_is_not_asked_again_after_a_crash(tmp_path: Path) -> None:
    world = World(tmp_path, drawn(3), delay_s=0.002)
    told = await heard(world.planner().solve(request("DFS_woFilter_w3", mode="speculative")))
    lines = world.file("r").read_bytes().splitlines(keepends=True)
    world.file("r").write_bytes(b"".join(lines[:-1]))
    known = {json.loads(line).get("key") for line in lines}
    world.model.requests.clear()
    resumed = await heard(world.planner().resume("r"))
    keys = ConversationKeys()
    assert end_of(resumed).record == end_of(told).record
    assert not known & {keys.key(asked) for asked in world.model.requests}

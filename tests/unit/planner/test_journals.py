"""Journals under slow readers, cut replies, callers that leave, and folders with strange things."""

import asyncio
import os
import resource
import stat
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from services.contracts.errors import FailedPrecondition, Unavailable
from services.contracts.ids import RunId
from services.contracts.llm import ChatRequest, Completion, CompletionDelta, Message
from services.contracts.planner import ForkRequest, Limits, ModelDelta, PlanEvent
from services.planner.journal.shelf import Shelf
from services.planner.journal.tape import Tape
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

STEP = reply((HELLO_NAME, "{}"), thought="go on like this")


async def read_slowly(events: AsyncIterator[PlanEvent]) -> list[PlanEvent]:
    found = []
    async for event in events:
        found.append(event)
        await asyncio.sleep(0.002)
    return found


@pytest.mark.parametrize("stream_model", [False, True])
@pytest.mark.parametrize("method", ["BFS_w3", "LATS_w3"])
async def test_the_order_of_a_parallel_run_is_replayed_though_its_reader_was_slow(
    tmp_path: Path, method: str, *, stream_model: bool
) -> None:
    world = World(tmp_path, drawn(5), delay_s=0.002)
    limits = Limits(max_depth=9, max_llm_calls=12)
    asked = request(method, mode="parallel", limits=limits)
    told = await read_slowly(world.planner(stream_model=stream_model).solve(asked))
    assert any(isinstance(event, ModelDelta) for event in told) is stream_model
    assert await heard(world.planner().replay("r")) == told


async def test_replies_that_were_guessed_are_replayed_in_the_pieces_that_were_told(
    tmp_path: Path,
) -> None:
    def step(asked: ChatRequest) -> Message:
        return reply((HELLO_NAME, "{}"), thought=f"one two {len(asked.messages)}")

    world = World(tmp_path, step, delay_s=0.002)
    asked = request("DFS_woFilter_w3", mode="speculative")
    told = await heard(world.planner(stream_model=True).solve(asked))
    texts = [event.text for event in told if isinstance(event, ModelDelta)]
    assert any(" " in text for text in texts), "nothing was guessed"
    assert await heard(world.planner().replay("r")) == told


class Stopping(ScriptedModel):
    """Stops in the middle of its second reply; waits there, or fails."""

    def __init__(self, error: Unavailable | None) -> None:
        super().__init__(lambda _: STEP)
        self._error = error

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionDelta]:
        async for delta in super().stream(request):
            yield delta
            if len(self.requests) == 2:
                if self._error is not None:
                    raise self._error
                await asyncio.sleep(60)


@pytest.mark.parametrize("error", [None, Unavailable("gone")])
async def test_the_pieces_of_a_reply_that_never_came_whole_are_replayed(
    tmp_path: Path, error: Unavailable | None
) -> None:
    world = World(tmp_path)
    world.model = Stopping(error)
    limits = Limits(deadline_s=0.1)
    told = await heard(world.planner(stream_model=True).solve(request(limits=limits)))
    pieces = [event for event in told if isinstance(event, ModelDelta) and event.expansion == 2]
    assert len(pieces) == 1
    assert await heard(world.planner().replay("r")) == told


class SlowJudge(ScriptedModel):
    """Answers at once, and takes its time to judge the second answer."""

    def __init__(self) -> None:
        super().__init__(lambda _: answer("done"))
        self._n_judged = 0

    async def complete(self, request: ChatRequest) -> Completion:
        if request.tool_choice != "none":
            return await super().complete(request)
        self._n_judged += 1
        if self._n_judged > 1:
            await asyncio.sleep(60)
        return Completion(message=Message(role="assistant", content="Score: 2"))


async def test_an_answered_run_that_its_deadline_ended_is_replayed_and_forked(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    world.model = SlowJudge()
    asked = request("LATS_w2", limits=Limits(deadline_s=0.1))
    told = await heard(world.planner().solve(asked))
    assert (end_of(told).kind, end_of(told).limit) == ("answered", None)
    assert await heard(world.planner().replay("r")) == told
    world.model = ScriptedModel(lambda _: answer("done"))
    fork = ForkRequest(run_id=RunId("r"), node_id=0, method="CoT@1", new_run_id=RunId("f"))
    assert end_of(await heard(world.planner().fork(fork))).kind == "answered"


async def test_a_last_call_that_the_deadline_cut_is_cut_in_the_replay(tmp_path: Path) -> None:
    class Slow(ScriptedModel):
        async def complete(self, request: ChatRequest) -> Completion:
            if len(request.tools) == 1:  # only Finish: the last call
                await asyncio.sleep(60)
            return await super().complete(request)

    world = World(tmp_path)
    world.model = Slow(lambda _: STEP)
    limits = Limits(max_steps=2, deadline_s=0.1)
    told = await heard(world.planner().solve(request("CoT@1", limits=limits)))
    assert end_of(told).limit == "max_steps"
    assert await heard(world.planner().replay("r")) == told


class HeldShelf(Shelf):
    """Opens a journal, and gives it away when it is let."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.is_open = threading.Event()
        self.may_give = threading.Event()

    def _held(self, tape: Tape) -> Tape:
        self.is_open.set()
        self.may_give.wait(5)
        return tape

    def begin(self, *args: object, **options: object) -> Tape:
        return self._held(super().begin(*args, **options))  # type: ignore[arg-type]

    def go_on(self, run_id: RunId) -> Tape:
        return self._held(super().go_on(run_id))


def open_journals(folder: Path) -> list[str]:
    links = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    return [link for link in links if link.startswith(str(folder))]


def wait_until_closed(folder: Path) -> None:
    for _ in range(1_000):
        if not open_journals(folder):
            return
        time.sleep(0.002)
    pytest.fail(f"left open: {open_journals(folder)}")


async def leave_while_it_opens(
    shelf: HeldShelf, folder: Path, events: AsyncIterator[PlanEvent]
) -> None:
    task = asyncio.ensure_future(anext(events))
    await asyncio.to_thread(shelf.is_open.wait, 5)
    task.cancel()
    await asyncio.wait([task])
    shelf.may_give.set()
    await asyncio.to_thread(wait_until_closed, folder)


async def test_a_caller_that_leaves_while_its_run_begins_leaves_nothing(tmp_path: Path) -> None:
    world, shelf = World(tmp_path), HeldShelf(tmp_path)
    planner = PlannerService(model=world.model, toolenv=world.toolenv, retriever=None, shelf=shelf)
    await leave_while_it_opens(shelf, tmp_path, planner.solve(request()))
    assert not world.file("r").exists()


async def test_a_run_that_is_left_while_it_is_resumed_can_be_resumed(tmp_path: Path) -> None:
    world, shelf = World(tmp_path), HeldShelf(tmp_path)
    world.model = ScriptedModel([Unavailable("gone")])
    await heard(world.planner().solve(request()))
    planner = PlannerService(model=world.model, toolenv=world.toolenv, retriever=None, shelf=shelf)
    await leave_while_it_opens(shelf, tmp_path, planner.resume(RunId("r")))
    world.model = ScriptedModel(lambda _: answer("done"))
    assert end_of(await heard(world.planner().resume("r"))).kind == "answered"


async def test_a_disk_that_takes_no_first_line_keeps_no_run_and_ends_none(tmp_path: Path) -> None:
    def write_once(asked: ChatRequest) -> Message:
        is_done = any(message.role == "tool" for message in asked.messages)
        return answer("done") if is_done else STEP

    toolenv = FakeToolEnv([document(HELLO, method="POST")])
    world = World(tmp_path, write_once, toolenv=toolenv)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, limits[1]))
    try:
        changes = {"instruction": "x" * 4_000, "allow_writes": True}
        asked = request("CoT@1", apis=(HELLO,), **changes)
        end = end_of(await heard(world.planner().solve(asked)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (end.kind, end.is_kept, len(toolenv.calls)) == ("answered", False, 1)
    assert not world.file("r").exists()


async def test_what_is_no_file_is_no_run(tmp_path: Path) -> None:
    world = World(tmp_path)
    await heard(world.planner().solve(request()))
    os.mkfifo(world.file("pipe"))
    world.file("nowhere").symlink_to(tmp_path / "gone")
    async with asyncio.timeout(2):
        assert [run.run_id for run in await world.planner().runs()] == ["r"]
        with pytest.raises(FailedPrecondition, match="no journal"):
            await heard(world.planner().replay("pipe"))


async def test_a_new_folder_of_journals_is_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    await heard(World(folder).planner().solve(request()))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700

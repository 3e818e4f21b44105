"""Mode `speculative` over tools that remember: the tree, the events and the world are `exact`'s."""

import asyncio
import json
import random
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.contracts.apis import ApiRef, InverseCall
from services.contracts.compat import NONE, TOOLBENCH, Compat
from services.contracts.llm import ChatRequest, Completion, Message
from services.contracts.planner import (
    ApprovalAsked,
    Limits,
    Mode,
    PlanEvent,
    RunEnded,
    SolveRequest,
    ToolFinished,
)
from services.contracts.toolenv import CallStatus, Observation, ToolCall
from services.planner.budget import Prices
from services.planner.journal.shelf import Shelf
from services.planner.service import PlannerOptions, PlannerService
from tests.fakes.planner_ports import (
    FakeToolEnv,
    ScriptedModel,
    answer,
    document,
    end_of,
    give_up,
    number,
    reply,
)

pytestmark = pytest.mark.anyio


def ref(tool: str, api: str) -> ApiRef:
    return ApiRef(category="Customized", tool=tool, api=api)


PUT, TAKE, LOOK, COUNT = (
    ref("store", "put"),
    ref("store", "take"),
    ref("store", "look"),
    ref("audit", "count"),
)
N = (number("n"),)
DOCUMENTS = [
    document(
        PUT,
        tool_name="store",
        method="POST",
        optional_parameters=N,
        inverse=InverseCall(api=TAKE, arguments={"n": "$arguments.n"}),
    ),
    document(TAKE, tool_name="store", method="DELETE", optional_parameters=N),
    document(LOOK, tool_name="store", method="GET", optional_parameters=N),
    document(COUNT, tool_name="audit", method="GET", optional_parameters=N),
]
NAMES = ["look_for_store", "count_for_audit", "look_for_store", "put_for_store", "take_for_store"]
UNTIDY = ["functions.put_for_store", "put_for_store()", "nobody"]


class Store(FakeToolEnv):
    """A list of numbers; one tool changes it, both tell what is in it. Calls take a few turns."""

    def __init__(self, seed: int) -> None:
        super().__init__(DOCUMENTS)
        self.held: list[float] = []
        self.changes: list[str] = []
        self._turns = random.Random(seed)

    async def invoke(self, call: ToolCall) -> Observation:
        self.calls.append(call)
        n = json.loads(call.arguments_text).get("n", 0)
        await self._some_turns()
        if call.api in (PUT, TAKE):
            self.changes.append(f"{call.api.api} {n}")
            if call.api == PUT:
                self.held.append(n)
            elif n in self.held:
                self.held.remove(n)
            await self._some_turns()
        content = json.dumps({"error": "", "response": f"{call.api.api}: {self.held}"})
        return Observation(status=CallStatus.OK, content=content, source="custom", latency_s=0.0)

    async def _some_turns(self) -> None:
        for _ in range(self._turns.choice([0, 1, 5, 25])):
            await asyncio.sleep(0)


class Drawing(ScriptedModel):
    """Replies that depend on the seed and the request only."""

    def __init__(self, seed: int) -> None:
        super().__init__(self._drawn)
        self._seed = seed
        self.asked = 0

    async def complete(self, request: ChatRequest) -> Completion:
        self.asked += 1
        for _ in range(4):
            await asyncio.sleep(0)
        return await super().complete(request)

    def _drawn(self, request: ChatRequest) -> Message:
        asked = [(m.role, m.content, m.tool_calls) for m in request.messages]
        draw = random.Random(f"{self._seed} {asked}")
        chance = draw.random()
        if chance < 0.15:
            return give_up()
        if chance < 0.22:
            return answer(f"{draw.random()}")
        calls = [
            (draw.choice(NAMES * 3 + UNTIDY), json.dumps({"n": draw.randrange(3)}))
            for _ in range(draw.choice([1, 1, 2, 3]))
        ]
        return reply(*calls, thought=draw.choice([None, "hm"]))


def outline(events: list[PlanEvent]) -> list[dict[str, object]]:
    unlike = {"latency_s", "seconds", "expires_in_s", "cost_usd"}
    extra = {"extra_llm_calls", "extra_tool_calls", "extra_usage"}
    return [event.model_dump(exclude=unlike | extra) for event in events]


async def solve(
    seed: int, mode: Mode, *, shelf: Shelf | None = None, **changes: object
) -> tuple[list[PlanEvent], Store, Drawing]:
    """The events of one run; of the calls that are asked about, those with even numbers may be."""
    store, model = Store(seed), Drawing(seed)
    options = PlannerOptions(prices=Prices(1e4, 1e4))
    planner = PlannerService(
        model=model, toolenv=store, retriever=None, options=options, shelf=shelf
    )
    wanted: dict[str, object] = {
        "instruction": "mind the store",
        "apis": tuple(each.ref for each in DOCUMENTS),
        "run_id": "r",
        "mode": mode,
        "limits": Limits(max_depth=14, max_llm_calls=30),
    }
    events: list[PlanEvent] = []
    async for event in planner.solve(SolveRequest.model_validate(wanted | changes)):
        events.append(event)
        if isinstance(event, ApprovalAsked):
            await planner.decide("r", event.call_id, approve=event.call_id % 2 == 0)
    return events, store, model


LIMITS = [{}, {"max_tool_calls": 6}, {"max_cost_usd": 1.5}, {"max_tokens": 150}]
PERMISSIONS = [{}, {"allow_writes": True}, {"allow_writes": True}, {"ask_approval": True}]


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    method=st.sampled_from(["DFS_woFilter_w2", "DFS_woFilter_w3", "CoT@2"]),
    compat=st.sampled_from([NONE, TOOLBENCH]),
    limit=st.sampled_from(LIMITS),
    permission=st.sampled_from(PERMISSIONS),
)
def test_a_tree_over_tools_that_remember_is_that_of_the_exact_search(
    seed: int,
    method: str,
    compat: Compat,
    limit: Mapping[str, object],
    permission: Mapping[str, object],
) -> None:
    limits = Limits.model_validate({"max_depth": 14, "max_llm_calls": 30} | limit)
    changes = {"method": method, "compat": compat, "limits": limits, **permission}

    async def both() -> None:
        exact, one, _ = await solve(seed, "exact", **changes)
        ahead, other, model = await solve(seed, "speculative", **changes)
        assert outline(ahead) == outline(exact)
        assert (other.held, other.changes) == (one.held, one.changes)
        end = end_of(ahead)
        assert end.tool_calls + end.extra_tool_calls == len(other.calls)
        assert end.llm_calls + end.extra_llm_calls == model.asked

    asyncio.run(both())


async def test_a_kept_run_is_replayed_without_what_was_read_too_early(tmp_path: Path) -> None:
    n_read_again = 0
    for seed in range(12):
        shelf = Shelf(tmp_path / str(seed))
        told, store, model = await solve(seed, "speculative", shelf=shelf, allow_writes=True)
        n_read_again += end_of(told).extra_tool_calls
        planner = PlannerService(model=model, toolenv=store, retriever=None, shelf=shelf)
        assert outline([event async for event in planner.replay("r")]) == outline(told)
    assert n_read_again


async def test_a_limit_of_tool_calls_holds_for_reads_ahead() -> None:
    limits = Limits(max_depth=14, max_tool_calls=4)
    for seed in range(8):
        events, store, _ = await solve(seed, "speculative", limits=limits)
        assert len(store.calls) <= 4
        assert end_of(events).extra_tool_calls == 0


async def test_a_limit_of_money_is_not_spent_on_guesses() -> None:
    limits = Limits(max_depth=14, max_cost_usd=1.0)
    for seed in range(8):
        events, _, model = await solve(seed, "speculative", limits=limits)
        end = end_of(events)
        assert (end.extra_llm_calls, end.llm_calls) == (0, model.asked)


async def test_a_read_of_one_reply_sees_the_write_before_it() -> None:
    calls = (("put_for_store", '{"n": 1}'), ("look_for_store", "{}"))
    model = ScriptedModel([reply(*calls), answer("done")])
    store = Store(0)
    planner = PlannerService(model=model, toolenv=store, retriever=None)
    request = SolveRequest(
        instruction="x", method="CoT@1", apis=(PUT, LOOK), mode="speculative", allow_writes=True
    )
    events = [event async for event in planner.solve(request)]
    seen = [event.observation for event in events if isinstance(event, ToolFinished)]
    assert "look: [1]" in seen[1]
    assert [call.api for call in store.calls] == [PUT, LOOK]


async def test_a_guess_asks_nobody_for_approval() -> None:
    def two_ways(request: ChatRequest) -> Message:
        """Both ways change something in their second call; the guess names it untidily."""
        seen = [m.name for m in request.messages if m.role == "tool"]
        is_guess = sum(m.role == "user" for m in request.messages) > 1
        if not seen:
            return reply(("count_for_audit" if is_guess else "look_for_store", "{}"))
        if seen == ["count_for_audit"]:
            return reply(("functions.put_for_store", '{"n": 2}'))
        return reply(("put_for_store", '{"n": 1}')) if len(seen) == 1 else answer("done")

    store = Store(0)
    planner = PlannerService(model=ScriptedModel(two_ways), toolenv=store, retriever=None)
    request = SolveRequest(
        instruction="x",
        run_id="r",
        apis=(PUT, LOOK, COUNT),
        mode="speculative",
        ask_approval=True,
        limits=Limits(max_depth=30),
    )
    last: PlanEvent | None = None
    async with asyncio.timeout(5):
        async for event in planner.solve(request):
            last = event
            if isinstance(event, ApprovalAsked):
                for _ in range(200):  # the guess goes on meanwhile, up to its change
                    await asyncio.sleep(0)
                await planner.decide("r", event.call_id, approve=True)
    assert isinstance(last, RunEnded)
    assert (last.kind, last.answer, store.held) == ("answered", "done", [1])
    assert last.extra_tool_calls == 1

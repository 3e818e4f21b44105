"""Which calls of a run are made, which share an observation, and which are refused."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from services.contracts.apis import ApiDocument, ApiRef, InverseCall, SideEffect
from services.contracts.compat import NONE, TOOLBENCH, Compat
from services.contracts.errors import Unavailable
from services.contracts.llm import Message
from services.contracts.planner import Limits
from services.contracts.toolenv import CallStatus, Observation, ToolCall
from services.planner.action_space import build_action_space
from services.planner.actions import ActionRunner, Outcome
from services.planner.budget import Budget
from services.planner.effects import Deed, Site, canonical, inverse_arguments
from services.planner.permission import Permission
from services.planner.tree import History, Node, NodeFactory, NodeType, extend
from tests.fakes.planner_ports import FakeToolEnv, document, number

pytestmark = pytest.mark.anyio

READ = ApiRef(category="Shop", tool="orders", api="status")
PUT = ApiRef(category="Shop", tool="orders", api="rename")
WRITE = ApiRef(category="Shop", tool="orders", api="create")
LAST = ApiRef(category="Shop", tool="orders", api="ship")
ELSEWHERE = ApiRef(category="Shop", tool="weather", api="today")
EFFECTS = {
    READ: SideEffect.READ,
    PUT: SideEffect.IDEMPOTENT,
    WRITE: SideEffect.WRITE,
    LAST: SideEffect.IRREVERSIBLE,
    ELSEWHERE: SideEffect.READ,
}
CHANGES = [PUT, WRITE, LAST]
OPENING: History = extend(None, Message(role="user", content="go"))


def counted(call: ToolCall, number: int) -> Observation:
    content = json.dumps({"error": "", "response": f"{call.api.api} {number}"})
    return Observation(status=CallStatus.OK, content=content, source="live", latency_s=0.5)


async def nothing(_: ToolCall) -> None:
    """What happens before a call, unless a test says so."""


class Tools(FakeToolEnv):
    """Tools at whose start a test may wait, fail, or make another call."""

    before: Callable[[ToolCall], Awaitable[object]] = staticmethod(nothing)

    async def invoke(self, call: ToolCall) -> Observation:
        await self.before(call)
        return await super().invoke(call)


class World:
    """A run's actions over tools that count their calls, and a tree to make them in."""

    def __init__(
        self,
        compat: Compat = NONE,
        *,
        allow_writes: bool = True,
        status: CallStatus = CallStatus.OK,
    ) -> None:
        self.nodes = NodeFactory()
        self.root = self.nodes.root(OPENING)
        self.status = status
        self.toolenv = Tools(answers=self._answer)
        self.budget = Budget(Limits())
        documents = [document(ref, declared_effect=effect) for ref, effect in EFFECTS.items()]
        self.runner = ActionRunner(
            space=build_action_space(documents, compat=compat),
            toolenv=self.toolenv,
            budget=self.budget,
            compat=compat,
            permission=Permission(allow_writes=allow_writes),
            user="ann",
        )
        self._calls = 0

    def _answer(self, call: ToolCall) -> Observation:
        answer = counted(call, len(self.toolenv.calls))
        return answer.model_copy(update={"status": self.status})

    def below(self, parent: Node | None = None) -> Node:
        return self.nodes.child(parent or self.root, NodeType.ACTION_INPUT, "{}")

    async def call(self, api: ApiRef, node: Node | None = None, arguments: str = "{}") -> Outcome:
        """Call an API from a node, by default from a new branch of the root."""
        self._calls += 1
        node = node or self.below()
        site = Site(self._calls, node, 1, node)
        return await self.runner.run(self.runner.name_of(api), arguments, site=site)

    @property
    def made(self) -> list[str]:
        return [call.api.api for call in self.toolenv.calls]


@pytest.mark.parametrize("api", [READ, PUT, WRITE, LAST])
async def test_a_call_that_another_branch_made_is_not_made_again(api: ApiRef) -> None:
    world = World()
    first, second = await world.call(api), await world.call(api)
    assert world.made == [api.api]
    assert second == first._replace(reused=True, latency_s=0.0)
    assert world.budget.reused_observations == 1


@pytest.mark.parametrize("api", EFFECTS)
async def test_toolbench_makes_every_call_again(api: ApiRef) -> None:
    world = World(TOOLBENCH, allow_writes=False)
    outcomes = [await world.call(api), await world.call(api)]
    assert world.made == [api.api, api.api]
    assert not any(outcome.reused for outcome in outcomes)


async def test_equal_calls_are_repeated_by_their_switch_but_a_write_is_not() -> None:
    world = World(Compat(repeat_equal_calls=True))
    for api in (READ, READ, PUT, PUT, WRITE, WRITE):
        await world.call(api)
    assert world.made == ["status", "status", "rename", "rename", "create"]


async def test_writes_are_free_by_their_switch_and_reads_are_still_shared() -> None:
    world = World(Compat(execute_writes_freely=True), allow_writes=False)
    for api in (WRITE, WRITE, READ, READ):
        await world.call(api)
    assert world.made == ["create", "create", "status"]


async def test_arguments_are_equal_when_they_mean_the_same() -> None:
    world = World()
    await world.call(READ, arguments='{"a": 1, "b": [2]}')
    assert (await world.call(READ, arguments='{"b":[2],"a":1}')).reused
    assert not (await world.call(READ, arguments='{"a": 1, "b": [3]}')).reused


def test_text_that_is_no_json_stands_for_itself() -> None:
    assert canonical("{a: 1") == "{a: 1"
    assert canonical("[" * 100_000) == "[" * 100_000


async def test_a_path_that_asks_again_is_answered_afresh() -> None:
    world = World()
    first = world.below()
    second = world.below(world.below(first))
    answers = [await world.call(READ, node) for node in (first, second)]
    assert [answer.reused for answer in answers] == [False, False]
    assert answers[0].observation != answers[1].observation


async def test_a_path_that_was_given_a_reused_answer_is_next_answered_afresh() -> None:
    world = World()
    await world.call(READ)
    node = world.below()
    assert (await world.call(READ, node)).reused
    assert not (await world.call(READ, world.below(node))).reused


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_makes_reads_of_its_tool_out_of_date(change: ApiRef) -> None:
    world = World()
    await world.call(READ)
    await world.call(ELSEWHERE)
    await world.call(change)
    assert not (await world.call(READ)).reused
    assert (await world.call(ELSEWHERE)).reused


async def test_a_read_during_a_change_is_not_shared() -> None:
    world = World()

    async def read_meanwhile(call: ToolCall) -> None:
        if call.api == WRITE:
            await world.call(READ)

    world.toolenv.before = read_meanwhile
    await world.call(WRITE)
    assert world.made == ["status", "create"]
    assert not (await world.call(READ)).reused


async def test_an_idempotent_change_is_made_again_after_another_one() -> None:
    world = World()
    for arguments in ('{"to": "a"}', '{"to": "b"}', '{"to": "a"}'):
        await world.call(PUT, arguments=arguments)
    assert world.made == ["rename"] * 3


async def test_an_idempotent_change_may_be_repeated_on_its_path() -> None:
    world = World()
    node = world.below()
    await world.call(PUT, node)
    await world.call(PUT, world.below(node))
    assert world.made == ["rename"] * 2


@pytest.mark.parametrize("api", [WRITE, LAST])
async def test_a_write_is_not_repeated_on_its_own_path_and_says_so(api: ApiRef) -> None:
    world = World()
    node = world.below()
    await world.call(api, node)
    again = await world.call(api, world.below(node))
    assert (world.made, again.status) == ([api.api], CallStatus.NOT_ALLOWED)
    assert "made before on this path" in again.observation


async def test_a_write_stays_made_when_others_follow() -> None:
    world = World()
    await world.call(WRITE)
    await world.call(LAST)
    assert (await world.call(WRITE)).reused


@pytest.mark.parametrize(
    ("status", "is_shared"),
    [
        (CallStatus.TOOL_ERROR, True),
        (CallStatus.INVALID_ARGUMENTS, True),
        (CallStatus.UNSUBSCRIBED, True),
        (CallStatus.TIMEOUT, False),
        (CallStatus.RATE_LIMITED, False),
        (CallStatus.TOO_MANY_REQUESTS, False),
        (CallStatus.REQUEST_FAILED, False),
        (CallStatus.API_NOT_WORKING, False),
    ],
)
async def test_a_lasting_refusal_is_shared_and_a_passing_failure_is_not(
    status: CallStatus, is_shared: bool
) -> None:
    world = World(status=status)
    await world.call(READ)
    assert (await world.call(READ)).reused is is_shared


@pytest.mark.parametrize(
    ("status", "times"),
    [(CallStatus.TIMEOUT, 1), (CallStatus.REQUEST_FAILED, 1), (CallStatus.RATE_LIMITED, 2)],
)
async def test_a_write_of_unknown_outcome_is_not_repeated_but_one_that_did_nothing_is(
    status: CallStatus, times: int
) -> None:
    world = World(status=status)
    await world.call(WRITE)
    await world.call(WRITE)
    assert len(world.made) == times


@pytest.mark.parametrize("api", CHANGES)
async def test_a_change_is_refused_where_it_is_not_allowed(api: ApiRef) -> None:
    world = World(allow_writes=False)
    outcome = await world.call(api)
    assert (world.made, outcome.status, outcome.source) == ([], CallStatus.NOT_ALLOWED, None)
    assert "not allowed" in json.loads(outcome.observation)["error"]


async def test_reads_need_no_permission() -> None:
    world = World(allow_writes=False)
    assert (await world.call(READ)).status is CallStatus.OK


@pytest.mark.parametrize("api", [READ, WRITE])
async def test_equal_calls_at_the_same_time_are_made_once(api: ApiRef) -> None:
    world = World()
    entered, proceed = asyncio.Event(), asyncio.Event()

    async def wait(_: ToolCall) -> None:
        entered.set()
        await proceed.wait()

    world.toolenv.before = wait
    tasks = [asyncio.create_task(world.call(api)) for _ in range(3)]
    await entered.wait()
    proceed.set()
    outcomes = await asyncio.gather(*tasks)
    assert world.made == [api.api]
    assert sorted(outcome.reused for outcome in outcomes) == [False, True, True]


async def test_a_cancelled_call_does_not_take_those_that_wait_for_it_along() -> None:
    world = World()
    entered = asyncio.Event()

    async def stick_once(_: ToolCall) -> None:
        if not entered.is_set():
            entered.set()
            await asyncio.Event().wait()

    world.toolenv.before = stick_once
    first = asyncio.create_task(world.call(READ))
    await entered.wait()
    second = asyncio.create_task(world.call(READ))
    first.cancel()
    assert (await second).status is CallStatus.OK


async def test_a_call_that_could_not_be_carried_out_leaves_nothing_behind() -> None:
    world = World()

    async def fail(_: ToolCall) -> None:
        raise Unavailable("down")

    world.toolenv.before = fail
    with pytest.raises(Unavailable):
        await world.call(READ)
    world.toolenv.before = nothing
    assert not (await world.call(READ)).reused


async def test_the_users_name_goes_along() -> None:
    world = World()
    await world.call(READ)
    assert world.toolenv.calls[0].user == "ann"


def deed(inverse: InverseCall, *, arguments: str = "{}", response: object = None) -> Deed:
    content = json.dumps({"error": "", "response": response})
    made: ApiDocument = document(WRITE, inverse=inverse)
    observation = Observation(status=CallStatus.OK, content=content, source="live")
    return Deed(document=made, arguments=arguments, site=None, observation=observation, era=0)


def filled(value: object, **about: object) -> object:
    inverse = InverseCall.model_validate({"api": LAST, "arguments": {"x": value}})
    return inverse_arguments(deed(inverse, **about))["x"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("$arguments.name", "tea"),
        ("$response.items.1.id", 7),
        ("$response", {"items": [{"id": 6}, {"id": 7}]}),
        ("$ 5", "$ 5"),
        ({"ids": ["$response.items.0.id", True]}, {"ids": [6, True]}),
    ],
)
def test_an_inverse_call_takes_its_arguments_from_the_call_it_undoes(
    value: object, expected: object
) -> None:
    response = {"items": [{"id": 6}, {"id": 7}]}
    assert filled(value, arguments='{"name": "tea"}', response=response) == expected


def test_arguments_are_found_under_the_documents_names_too() -> None:
    inverse = InverseCall(api=LAST, arguments={"x": "$arguments.Order ID"})
    made = deed(inverse, arguments='{"order_id": 5}')
    declared = made.document.model_copy(update={"required_parameters": (number("Order ID"),)})
    made.document = declared
    assert inverse_arguments(made) == {"x": 5}


def test_a_response_that_is_a_text_of_json_is_read() -> None:
    assert filled("$response.id", response='{"id": 3}') == 3


@pytest.mark.parametrize("value", ["$response.id", "$arguments.name", "$response.id.x"])
def test_an_inverse_call_that_lacks_a_field_names_it(value: str) -> None:
    with pytest.raises(ValueError, match="there is no"):
        filled(value, response={})

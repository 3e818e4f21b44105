"""Going back: what an abandoned branch changed is undone, or the model is told that it stands."""

import json
from collections.abc import Sequence

import pytest

from services.contracts.apis import ApiDocument, ApiRef, SideEffect
from services.contracts.compat import NONE, TOOLBENCH, Compat
from services.contracts.errors import Unavailable
from services.contracts.ids import RunId
from services.contracts.llm import Message
from services.contracts.planner import (
    ApprovalAsked,
    Limits,
    PlanEvent,
    SolveRequest,
    ToolFinished,
    ToolStarted,
)
from services.contracts.toolenv import CallStatus, Observation, ToolCall
from services.planner.service import PlannerService
from tests.fakes.planner_ports import (
    FakeToolEnv,
    ScriptedModel,
    answer,
    end_of,
    events_of,
    give_up,
    reply,
)

pytestmark = pytest.mark.anyio


def ref(api: str) -> ApiRef:
    return ApiRef(category="Shop", tool="orders", api=api)


def name(api: str) -> str:
    return f"{api}_for_orders"


def api_document(api: str, effect: SideEffect, **more: object) -> ApiDocument:
    values = {"ref": ref(api), "category_name": "Shop", "tool_name": "orders", "api_name": api}
    what = {"name": "what", "type": "STRING"}
    said = {"declared_effect": effect, "optional_parameters": [what]}
    return ApiDocument.model_validate(values | said | more)


CANCEL = {"api": ref("cancel"), "arguments": {"id": "$response.id", "why": "$arguments.what"}}
DOCUMENTS = [
    api_document("create", SideEffect.WRITE, inverse=CANCEL),
    api_document("notify", SideEffect.IRREVERSIBLE),
    api_document("status", SideEffect.READ),
]


class Shop(FakeToolEnv):
    """Numbers its orders from 1; `broken` APIs answer with that status, or raise it."""

    def __init__(
        self,
        documents: Sequence[ApiDocument] = DOCUMENTS,
        **broken: CallStatus | Unavailable,
    ) -> None:
        super().__init__(documents, answers=self._serve)
        self._broken = broken

    def _serve(self, call: ToolCall) -> Observation:
        status = self._broken.get(call.api.api, CallStatus.OK)
        if isinstance(status, Unavailable):
            raise status
        number = sum(each.api == call.api for each in self.calls)
        content = json.dumps({"error": "", "response": {"id": number}})
        return Observation(status=status, content=content, source="live")

    @property
    def made(self) -> list[str]:
        return [f"{call.api.api} {call.arguments_text}" for call in self.calls]


def step(api: str, arguments: str = "{}", thought: str = "go on") -> Message:
    return reply((name(api), arguments), thought=thought)


TEA, MILK = '{"what": "tea"}', '{"what": "milk"}'
GO_BACK = [give_up("no good"), give_up("no good either")]


async def run(
    shop: Shop,
    *replies: Message,
    method: str = "DFS_woFilter_w2",
    compat: Compat = NONE,
    allow_writes: bool = True,
    **limits: int,
) -> tuple[list[PlanEvent], ScriptedModel]:
    model = ScriptedModel(replies)
    planner = PlannerService(model=model, toolenv=shop, retriever=None)
    request = SolveRequest(
        instruction="buy tea",
        method=method,
        apis=tuple(document.ref for document in DOCUMENTS),
        limits=Limits(**limits),
        compat=compat,
        allow_writes=allow_writes,
        run_id=RunId("undo"),
    )
    return await events_of(planner, request), model


def undone(events: list[PlanEvent]) -> list[ToolStarted]:
    return [event for event in events if isinstance(event, ToolStarted) and event.compensates]


async def test_a_change_is_undone_before_the_next_sibling_is_tried() -> None:
    shop = Shop()
    events, _ = await run(shop, step("create", TEA), give_up(), step("create", MILK), answer("ok"))
    assert shop.made == [f"create {TEA}", 'cancel {"id": 1, "why": "tea"}', f"create {MILK}"]
    (started,) = undone(events)
    assert (started.api, started.compensates, started.expansion) == (ref("cancel"), 1, 1)
    ended = {event.call_id: event for event in events if isinstance(event, ToolFinished)}
    assert ended[started.call_id].status is CallStatus.OK


async def test_several_changes_are_undone_from_the_last_to_the_first() -> None:
    shop = Shop()
    await run(
        shop,
        reply((name("create"), TEA), (name("create"), MILK)),
        give_up(),
        answer("other way"),
    )
    assert [call.split()[0] for call in shop.made] == ["create", "create", "cancel", "cancel"]
    assert shop.made[2:] == ['cancel {"id": 2, "why": "milk"}', 'cancel {"id": 1, "why": "tea"}']


async def test_only_the_abandoned_part_of_a_path_is_undone() -> None:
    # root -> tea -> milk: the depth limit ends that attempt, and another one below tea answers.
    shop = Shop()
    replies = [step("create", TEA), step("create", MILK), answer("tea only")]
    await run(shop, *replies, max_depth=6)
    assert shop.made[2:] == ['cancel {"id": 2, "why": "milk"}']


async def test_an_undone_change_is_made_anew_by_another_branch() -> None:
    shop = Shop()
    await run(shop, step("create", TEA), give_up(), step("create", TEA), answer("ok"))
    assert [call.split()[0] for call in shop.made] == ["create", "cancel", "create"]


async def test_a_change_without_inverse_is_made_once_and_stands_for_other_branches() -> None:
    shop = Shop()
    events, _ = await run(shop, step("notify"), give_up(), step("notify"), answer("ok"))
    assert shop.made == ["notify {}"]
    assert end_of(events).reused_observations == 1
    assert [e.reused for e in events if isinstance(e, ToolFinished) and e.source] == [False, True]


async def test_the_model_is_told_where_it_goes_on_of_what_stands() -> None:
    _, model = await run(Shop(), step("notify", TEA), give_up(), step("status"), answer("ok"))
    told = [m.content for m in model.requests[2].messages if m.role == "user"]
    assert f"notify of orders with {TEA}" in told[1]
    later = [m.content for m in model.requests[3].messages if m.role == "user"]
    assert told[1] in later


async def test_it_is_told_once_on_each_path() -> None:
    replies = [step("notify"), give_up(), give_up(), answer("ok")]
    _, model = await run(Shop(), *replies, method="DFS_woFilter_w3")
    notes = [m for m in model.requests[-1].messages if "not undone" in (m.content or "")]
    assert len(notes) == 1


@pytest.mark.parametrize("failure", [CallStatus.TOOL_ERROR, Unavailable("down")])
async def test_a_failing_inverse_call_is_told_and_the_run_goes_on(
    failure: CallStatus | Unavailable,
) -> None:
    shop = Shop(cancel=failure)
    events, model = await run(shop, step("create", TEA), give_up(), answer("ok"))
    assert end_of(events).kind == "answered"
    assert len(undone(events)) == 1
    assert f"create of orders with {TEA}" in (model.requests[2].messages[2].content or "")


async def test_an_inverse_call_that_lacks_a_value_is_not_made() -> None:
    shop = Shop()
    events, model = await run(shop, step("create"), give_up(), answer("ok"))
    assert (shop.made, undone(events)) == (["create {}"], [])
    assert "create of orders" in (model.requests[2].messages[2].content or "")


async def test_a_change_that_failed_is_not_undone() -> None:
    shop = Shop(create=CallStatus.TOOL_ERROR)
    await run(shop, step("create", TEA), give_up(), answer("ok"))
    assert shop.made == [f"create {TEA}"]


async def test_the_path_of_the_answer_stands() -> None:
    shop = Shop()
    await run(shop, step("create", TEA), answer("ordered"))
    assert shop.made == [f"create {TEA}"]


@pytest.mark.parametrize("method", ["CoT@1", "DFS_woFilter_w1"])
async def test_a_search_that_gives_up_leaves_nothing_changed(method: str) -> None:
    shop = Shop()
    events, _ = await run(shop, step("create", TEA), *GO_BACK, method=method)
    assert end_of(events).kind == "gave_up"
    assert [call.split()[0] for call in shop.made] == ["create", "cancel"]


async def test_chains_undo_before_the_next_one_starts() -> None:
    shop = Shop()
    replies = [step("create", TEA), step("notify"), give_up(), answer("ok")]
    _, model = await run(shop, *replies, method="CoT@2")
    assert [call.split()[0] for call in shop.made] == ["create", "notify", "cancel"]
    assert "notify of orders" in (model.requests[3].messages[2].content or "")
    assert "create of orders" not in (model.requests[3].messages[2].content or "")


async def test_what_an_answer_leaves_behind_is_undone_from_the_last_to_the_first() -> None:
    shop = Shop()
    replies = [step("create", TEA), step("create", MILK), answer("neither")]
    await run(shop, *replies, method="UCT_vote")
    assert [call.partition(" ")[2] for call in shop.made[2:]] == [
        '{"id": 2, "why": "milk"}',
        '{"id": 1, "why": "tea"}',
    ]


@pytest.mark.parametrize("compat", [TOOLBENCH, Compat(execute_writes_freely=True)])
async def test_with_free_writes_nothing_is_undone(compat: Compat) -> None:
    shop = Shop()
    replies = [step("status"), step("create", TEA), give_up(), step("create", TEA), answer("ok")]
    await run(shop, *replies, compat=compat, allow_writes=False)
    assert [call.split()[0] for call in shop.made] == ["status", "create", "create"]


@pytest.mark.parametrize("effect", [SideEffect.WRITE, SideEffect.IDEMPOTENT])
async def test_changes_are_undone_also_where_equal_calls_are_repeated(effect: SideEffect) -> None:
    shop = Shop([api_document("create", effect, inverse=CANCEL), *DOCUMENTS[1:]])
    replies = [step("create", TEA), give_up(), step("create", TEA), answer("ok")]
    await run(shop, *replies, compat=Compat(repeat_equal_calls=True))
    assert [call.split()[0] for call in shop.made] == ["create", "cancel", "create"]


async def test_the_inverse_call_is_asked_about_too() -> None:
    shop = Shop()
    replies = ScriptedModel([step("create", TEA), give_up(), answer("ok")])
    planner = PlannerService(model=replies, toolenv=shop, retriever=None)
    request = SolveRequest(
        instruction="buy tea",
        apis=tuple(document.ref for document in DOCUMENTS),
        ask_approval=True,
        run_id=RunId("asked"),
    )
    decisions = iter([True, False])
    asked: list[str] = []
    async for event in planner.solve(request):
        if isinstance(event, ApprovalAsked):
            asked.append(event.api.api)
            await planner.decide(RunId("asked"), event.call_id, approve=next(decisions))
    assert asked == ["create", "cancel"]
    assert [call.split()[0] for call in shop.made] == ["create"]

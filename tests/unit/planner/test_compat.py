"""Each switch of `Compat` both ways, as a run shows it; the reading ones are in test_reading.

Where a switch has a test module of its own the behaviour is tested there in depth.
"""

import json
from collections.abc import Callable, Iterable

import pytest

from services.contracts.compat import NONE, TOOLBENCH, Compat
from services.contracts.llm import Message
from services.contracts.planner import Limits, PlanEvent, SolveRequest, ToolFinished
from services.contracts.toolenv import CallStatus, Observation, ToolCall
from services.planner.service import PlannerService
from tests.fakes.planner_ports import (
    HELLO,
    HELLO_NAME,
    OTHER,
    FakeToolEnv,
    ScriptedModel,
    answer,
    document,
    end_of,
    events_of,
    give_up,
    number,
    reply,
)

pytestmark = pytest.mark.anyio
STEP = reply((HELLO_NAME, "{}"))


async def run(
    replies: Iterable[Message] | Callable[[object], Message],
    compat: Compat,
    *,
    toolenv: FakeToolEnv | None = None,
    method: str = "CoT@1",
    **limits: int,
) -> tuple[list[PlanEvent], ScriptedModel]:
    model = ScriptedModel(replies)
    planner = PlannerService(model=model, toolenv=toolenv or FakeToolEnv(), retriever=None)
    request = SolveRequest(
        instruction="say hello",
        method=method,
        apis=(HELLO, OTHER),
        limits=Limits(**limits),
        compat=compat,
    )
    return await events_of(planner, request), model


def first_outcome(events: list[PlanEvent]) -> ToolFinished:
    return next(event for event in events if isinstance(event, ToolFinished))


def test_every_switch_is_on_in_toolbench_mode_and_off_otherwise() -> None:
    def quirks(compat: Compat) -> dict[str, bool]:
        values = compat.model_dump()
        values["no_hints"] = not values.pop("hint_near_names")  # the one that adds something
        return values

    assert set(quirks(TOOLBENCH).values()) == {True}
    assert set(quirks(NONE).values()) == {False}


@pytest.mark.parametrize(
    ("compat", "status"),
    [
        (Compat(match_function_suffix=True), CallStatus.OK),
        (NONE, CallStatus.UNKNOWN_FUNCTION),
    ],
)
async def test_match_function_suffix(compat: Compat, status: CallStatus) -> None:
    events, _ = await run([reply(("hello_world", "{}")), answer("x")], compat)
    assert first_outcome(events).status is status


@pytest.mark.parametrize(
    ("drops", "names"),
    [(True, []), (False, ["n"])],
)
async def test_drop_optional_only_parameters(drops: bool, names: list[str]) -> None:
    toolenv = FakeToolEnv([document(HELLO, optional_parameters=(number("n"),)), document(OTHER)])
    compat = Compat(toolbench_prompts=True, drop_optional_only_parameters=drops)
    _, model = await run([answer("x")], compat, toolenv=toolenv)
    assert list(model.requests[0].tools[0].parameters["properties"]) == names


async def test_parameters_are_all_shown_without_quirks() -> None:
    toolenv = FakeToolEnv([document(HELLO, optional_parameters=(number("n"),)), document(OTHER)])
    _, model = await run([answer("x")], NONE, toolenv=toolenv)
    assert list(model.requests[0].tools[0].parameters["properties"]) == ["n"]


def unsubscribed(_: ToolCall) -> Observation:
    content = json.dumps({"error": "Unsubscribed error...", "response": ""})
    return Observation(status=CallStatus.TOOL_ERROR, content=content, source="remote")


@pytest.mark.parametrize(
    ("compat", "status"),
    [
        (Compat(codes_from_error_text=True), CallStatus.UNSUBSCRIBED),
        (NONE, CallStatus.TOOL_ERROR),
    ],
)
async def test_codes_from_error_text(compat: Compat, status: CallStatus) -> None:
    toolenv = FakeToolEnv(answers=unsubscribed)
    events, _ = await run([STEP, answer("x")], compat, toolenv=toolenv)
    assert first_outcome(events).status is status


@pytest.mark.parametrize(
    ("compat", "text"),
    [(Compat(toolbench_prompts=True), "\nsay hello\nBegin!\n"), (NONE, "say hello")],
)
async def test_toolbench_prompts(compat: Compat, text: str) -> None:
    _, model = await run([answer("x")], compat)
    assert model.requests[0].messages[1].content == text


@pytest.mark.parametrize(
    ("compat", "kind", "calls"),
    [(Compat(first_step_give_up_ends_search=True), "gave_up", 1), (NONE, "answered", 2)],
)
async def test_first_step_give_up_ends_search(compat: Compat, kind: str, calls: int) -> None:
    events, _ = await run([give_up(), answer("x")], compat, method="DFS_woFilter_w2")
    assert (end_of(events).kind, end_of(events).llm_calls) == (kind, calls)


@pytest.mark.parametrize(
    ("compat", "kind"),
    [(Compat(discard_reply_at_call_limit=True), "exhausted"), (NONE, "answered")],
)
async def test_discard_reply_at_call_limit(compat: Compat, kind: str) -> None:
    events, _ = await run([answer("x")], compat, max_llm_calls=1)
    assert (end_of(events).kind, end_of(events).llm_calls) == (kind, 1)


@pytest.mark.parametrize(
    ("compat", "name"),
    [
        (Compat(dfs_renames_first_call_only=True), "made_up"),
        (NONE, "invalid_hallucination_function_name"),
    ],
)
async def test_dfs_renames_first_call_only(compat: Compat, name: str) -> None:
    replies = [reply((HELLO_NAME, "{}"), ("made_up", "{}")), answer("x")]
    _, model = await run(replies, compat, method="DFS_woFilter_w2")
    assert model.requests[1].messages[2].tool_calls[1].name == name


UNFINISHED = reply(("Finish", '{"return_type": "give_answer" "final_answer": "42 and mo'))


@pytest.mark.parametrize(
    ("compat", "given"),
    [
        (Compat(no_reply_repair=True, repair_finish_arguments=True), "42 and mo"),
        (Compat(no_reply_repair=True), "x"),
    ],
)
async def test_repair_finish_arguments(compat: Compat, given: str) -> None:
    events, _ = await run([UNFINISHED, answer("x")], compat)
    assert end_of(events).answer == given


@pytest.mark.parametrize(
    ("compat", "kind", "calls"),
    [
        (Compat(cot_ignores_call_limit=True), "answered", 4),
        (TOOLBENCH, "answered", 4),
        (NONE, "exhausted", 2),
    ],
)
async def test_cot_ignores_call_limit(compat: Compat, kind: str, calls: int) -> None:
    thoughts = [Message(role="assistant", content=f"hm {n}") for n in range(3)]
    events, _ = await run([*thoughts, answer("x")], compat, max_llm_calls=2)
    assert (end_of(events).kind, end_of(events).llm_calls) == (kind, calls)


async def test_a_tree_keeps_its_call_limit_in_toolbench_mode() -> None:
    replies = [Message(role="assistant", content="hm"), answer("x")]
    events, _ = await run(replies, TOOLBENCH, max_llm_calls=2, method="DFS_woFilter_w2")
    assert end_of(events).kind == "exhausted"


@pytest.mark.parametrize(
    ("compat", "hints"), [(Compat(hint_near_names=False), False), (NONE, True)]
)
async def test_hint_near_names(compat: Compat, hints: bool) -> None:
    events, _ = await run([reply(("get_hello", "{}")), answer("x")], compat)
    assert ("Did you mean" in first_outcome(events).observation) is hints


@pytest.mark.parametrize(("compat", "calls"), [(Compat(repeat_equal_calls=True), 2), (NONE, 1)])
async def test_repeat_equal_calls(compat: Compat, calls: int) -> None:
    toolenv = FakeToolEnv()
    replies = [STEP, give_up(), STEP, answer("x")]
    await run(replies, compat, toolenv=toolenv, method="DFS_woFilter_w2")
    assert len(toolenv.calls) == calls


@pytest.mark.parametrize(
    ("compat", "end"),
    [(Compat(cut_observations_at_end=True), "..."), (NONE, 'world"}')],
)
async def test_cut_observations_at_end(compat: Compat, end: str) -> None:
    long = json.dumps({"error": "", "response": "x" * 5_000 + " world"})
    toolenv = FakeToolEnv(
        answers=lambda _: Observation(status=CallStatus.OK, content=long, source="custom")
    )
    events, _ = await run([STEP, answer("x")], compat, toolenv=toolenv, max_observation_chars=400)
    assert first_outcome(events).observation.endswith(end)

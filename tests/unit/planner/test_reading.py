"""Reading replies: classes, tidied names, ids, and runs over replies of every kind."""

import asyncio
import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.contracts.compat import NONE, TOOLBENCH, Compat
from services.contracts.llm import ChatRequest, Completion, Message, MessageToolCall
from services.contracts.planner import (
    Deliberated,
    Limits,
    ModelReplied,
    PlanEvent,
    RunEnded,
    SolveRequest,
    ToolFinished,
    ToolStarted,
)
from services.planner.action_space import build_action_space
from services.planner.reading import MAX_CALLS_PER_REPLY, Reader, Reading
from services.planner.service import PlannerService
from tests.fakes.planner_ports import (
    GIVE_UP_ARGUMENTS,
    HELLO,
    HELLO_NAME,
    OTHER,
    OTHER_NAME,
    FakeToolEnv,
    ScriptedModel,
    answer,
    document,
    end_of,
    events_of,
    number,
    reply,
)

DOCUMENTS = (document(HELLO, required_parameters=(number("n"),)), document(OTHER))
GOOD = '{"n": 1}'


def read(
    message: Message, *, cut: bool = False, compat: Compat = NONE, reader: Reader | None = None
) -> Reading:
    reader = reader or Reader(build_action_space(DOCUMENTS, compat=compat), compat)
    return reader.read(Completion(message=message, finish_reason="length" if cut else "stop"))


def call(arguments: str, name: str = HELLO_NAME, id_: str = "call_0") -> MessageToolCall:
    return MessageToolCall(id=id_, name=name, arguments=arguments)


def said(*calls: MessageToolCall, content: str | None = None) -> Message:
    return Message(role="assistant", content=content, tool_calls=calls)


@pytest.mark.parametrize(
    ("message", "cut", "kind", "is_usable"),
    [
        (said(call(GOOD)), False, "well_formed", True),
        (said(call("{'n': 1}")), False, "repaired", True),
        (said(call('{"n": "1"}')), False, "repaired", True),
        (said(call("prose")), False, "unreadable_arguments", False),
        (said(call('{"m": 1}')), False, "schema_violation", True),
        (said(call(GOOD, "nope")), False, "unknown_function", True),
        (said(call("{", "nope")), False, "unknown_function", True),
        (said(content="hm"), False, "no_action", True),
        (said(), False, "no_action", True),
        (said(content="I think that"), True, "truncated", False),
        (said(call('{"n": 1')), True, "truncated", False),
        (said(call("{'n': 1")), True, "truncated", False),
        (said(call(GOOD)), True, "truncated", True),
        (said(call("{}", "Finish")), False, "schema_violation", True),
        (said(call(GIVE_UP_ARGUMENTS, "Finish")), False, "well_formed", True),
        (said(call("{'return_type': 'give_up_and_restart'}", "Finish")), False, "repaired", True),
        (said(call(GOOD), call("prose", OTHER_NAME)), False, "unreadable_arguments", False),
    ],
)
def test_each_reply_has_its_class(message: Message, cut: bool, kind: str, is_usable: bool) -> None:
    reading = read(message, cut=cut)
    assert (reading.kind, reading.is_usable) == (kind, is_usable)


@pytest.mark.parametrize(
    "name",
    [
        f" {HELLO_NAME}\n",
        f"`{HELLO_NAME}`",
        f'"{HELLO_NAME}"',
        f"functions.{HELLO_NAME}",
        f"api.v1.{HELLO_NAME}",
        f"{HELLO_NAME}()",
        f"**{HELLO_NAME}**",
    ],
)
def test_an_untidy_name_is_tidied(name: str) -> None:
    reading = read(said(call(GOOD, name)))
    assert (reading.message.tool_calls[0].name, reading.kind) == (HELLO_NAME, "repaired")


@pytest.mark.parametrize("name", ["", ".", "()", "hello_world", HELLO_NAME.upper(), "x" * 100_000])
def test_another_name_is_not_bent_into_a_known_one(name: str) -> None:
    reading = read(said(call(GOOD, name)))
    assert (reading.message.tool_calls[0].name, reading.kind) == (name, "unknown_function")


def test_missing_and_repeated_ids_are_made_to_differ() -> None:
    calls = (call('{"n": 1}', id_=""), call('{"n": 2}', id_="x"), call('{"n": 3}', id_="x"))
    ids = [one.id for one in read(said(*calls)).message.tool_calls]
    assert (ids, len(set(ids))) == (["call_0", "x", "x_1"], 3)


def test_an_equal_call_in_the_same_reply_is_left_out() -> None:
    reading = read(said(call(GOOD), call("{}", OTHER_NAME), call("{'n': 1}", id_="again")))
    assert [one.name for one in reading.message.tool_calls] == [HELLO_NAME, OTHER_NAME]
    assert reading.kind == "repaired"


def test_a_reply_cannot_hold_endlessly_many_calls() -> None:
    calls = [call(f'{{"n": {index}}}', id_=f"c{index}") for index in range(1_000)]
    assert len(read(said(*calls)).message.tool_calls) == MAX_CALLS_PER_REPLY


@pytest.mark.parametrize(
    "text",
    [
        f"Thought: hm\nAction: {HELLO_NAME}\nAction Input: {GOOD}",
        f"hm\n**Action:** `{HELLO_NAME}`\n**Action Input:** ```json\n{GOOD}\n```",
        f"hm\nAction: {HELLO_NAME}\nAction Input: {GOOD}\nObservation: x\nAction: {OTHER_NAME}\n"
        "Action Input: {}",
        f'hm <tool_call>{{"name": "{HELLO_NAME}", "arguments": {GOOD}}}</tool_call>',
    ],
)
def test_a_call_that_was_left_in_the_text_is_taken_out(text: str) -> None:
    reading = read(said(content=text))
    (one,) = reading.message.tool_calls
    assert (one.name, json.loads(one.arguments)) == (HELLO_NAME, {"n": 1})
    assert (reading.message.content, reading.kind) == ("hm", "repaired")


def test_a_call_that_is_the_whole_text_is_taken_out() -> None:
    text = json.dumps({"name": HELLO_NAME, "parameters": {"n": 1}})
    assert read(said(content=text)).message.tool_calls[0].name == HELLO_NAME


@pytest.mark.parametrize(
    "text",
    [
        "Action: call somebody\nAction Input: their number",
        "Action: nope\nAction Input: {}",
        '{"name": "nope", "arguments": {}}',
        '{"name": 5}',
        "<tool_call>",
        f"I should call {HELLO_NAME} with {GOOD} next.",
    ],
)
def test_prose_about_actions_stays_a_thought(text: str) -> None:
    reading = read(said(content=text))
    assert (reading.message.content, reading.kind) == (text, "no_action")


def test_arguments_that_are_no_json_never_reach_a_later_request() -> None:
    reading = read(said(call("prose"), call("{}", OTHER_NAME)))
    assert [one.arguments for one in reading.shown().tool_calls] == ["{}", "{}"]
    assert reading.message.tool_calls[0].arguments == "prose"


def test_halves_of_surrogate_pairs_are_replaced() -> None:
    model = ScriptedModel([said(call(GOOD, "\ud800"), content="a\udfff"), answer("x")])
    (first, _) = told(run(model), ModelReplied)
    assert (first.message.content, first.message.tool_calls[0].name) == ("a?", "?")


MESSY = said(call("{'n': 1}", f" {HELLO_NAME}"), call("{'n': 1}", f" {HELLO_NAME}"))


def test_with_the_quirk_a_reply_is_taken_as_it_comes() -> None:
    reading = read(MESSY, compat=TOOLBENCH)
    assert (reading.message, reading.shown(), reading.refusals) == (MESSY, MESSY, ())
    assert (reading.is_usable, reading.kind) == (True, "unreadable_arguments")
    assert read(MESSY).message != MESSY


@pytest.mark.parametrize(
    ("message", "cut", "kind"),
    [
        (said(call('{"m": 1}')), False, "well_formed"),
        (said(call("{'n': 1}")), False, "unreadable_arguments"),
        (said(call(GOOD, "nope")), False, "unknown_function"),
        (said(content="hm"), False, "no_action"),
        (said(content="hm"), True, "truncated"),
    ],
)
def test_with_the_quirk_replies_are_classed_and_nothing_more(
    message: Message, cut: bool, kind: str
) -> None:
    reading = read(message, cut=cut, compat=TOOLBENCH)
    assert (reading.kind, reading.is_usable, reading.message) == (kind, True, message)


class CutModel(ScriptedModel):
    """Cuts the first `n_cut` replies off; the script has what is left of them."""

    def __init__(self, replies: Sequence[Message], *, n_cut: int) -> None:
        super().__init__(replies)
        self._n_cut = n_cut

    async def complete(self, request: ChatRequest) -> Completion:
        completion = await super().complete(request)
        is_cut = len(self.requests) <= self._n_cut
        return completion.model_copy(update={"finish_reason": "length"}) if is_cut else completion


def run(
    model: ScriptedModel,
    toolenv: FakeToolEnv | None = None,
    *,
    compat: Compat = NONE,
    limits: Limits = Limits(max_llm_calls=20),  # noqa: B008  # frozen
    method: str = "CoT@1",
) -> list[PlanEvent]:
    toolenv = toolenv or FakeToolEnv(DOCUMENTS)
    planner = PlannerService(model=model, toolenv=toolenv, retriever=None)
    request = SolveRequest(
        instruction="say hello", method=method, apis=(HELLO, OTHER), limits=limits, compat=compat
    )
    return asyncio.run(events_of(planner, request))


def told(events: Sequence[PlanEvent], kind: type[PlanEvent]) -> list[PlanEvent]:
    return [event for event in events if isinstance(event, kind)]


@pytest.mark.parametrize(
    ("first", "kind", "n_asked"),
    [
        (reply((HELLO_NAME, GOOD)), "well_formed", 2),
        (reply((HELLO_NAME, "{'n': 1}")), "repaired", 2),
        (reply((HELLO_NAME, "prose")), "unreadable_arguments", 2),
        (reply((HELLO_NAME, '{"m": 1}')), "schema_violation", 2),
        (reply(("nope", "{}")), "unknown_function", 2),
        (Message(role="assistant", content="hm"), "no_action", 2),
    ],
)
def test_each_class_is_counted_in_the_end(first: Message, kind: str, n_asked: int) -> None:
    model = ScriptedModel([first, answer("x")])
    end = end_of(run(model))
    expected = {kind: 1, "well_formed": 1} if kind != "well_formed" else {"well_formed": 2}
    assert (end.kind, end.readings, end.llm_calls) == ("answered", expected, n_asked)


def test_cut_off_replies_are_counted_in_the_end() -> None:
    model = CutModel([reply((HELLO_NAME, '{"n')), answer("x")], n_cut=1)
    assert end_of(run(model)).readings == {"truncated": 1, "well_formed": 1}


def test_unreadable_arguments_are_asked_for_again_in_words_that_are_not_kept() -> None:
    model = ScriptedModel([reply((HELLO_NAME, "prose")), reply((HELLO_NAME, GOOD)), answer("x")])
    toolenv = FakeToolEnv(DOCUMENTS)
    events = run(model, toolenv)
    assert [len(request.messages) for request in model.requests] == [2, 3, 4]
    correction = model.requests[1].messages[-1]
    assert (correction.role, HELLO_NAME in correction.content) == ("user", True)
    assert [message.role for message in model.requests[2].messages[2:]] == ["assistant", "tool"]
    assert [one.arguments_text for one in toolenv.calls] == [GOOD]
    assert [event.repairs for event in told(events, ModelReplied)] == [1, 0]


def test_every_model_call_is_told_once() -> None:
    model = ScriptedModel([*[reply((HELLO_NAME, "prose"))] * 3, answer("x")])
    events = run(model)
    spent = [event.usage for event in (*told(events, Deliberated), *told(events, ModelReplied))]
    assert (len(spent), end_of(events).llm_calls) == (4, 4)
    assert sum(usage.total_tokens for usage in spent) == end_of(events).usage.total_tokens
    assert [event.is_readable for event in told(events, Deliberated)] == [False, False]


def test_after_two_repairs_the_model_reads_what_is_wrong_and_no_tool_is_asked() -> None:
    model = ScriptedModel([*[reply((HELLO_NAME, "prose"))] * 3, answer("x")])
    toolenv = FakeToolEnv(DOCUMENTS)
    events = run(model, toolenv)
    observation = json.loads(told(events, ToolFinished)[0].observation)
    assert (observation["response"], "not JSON" in observation["error"]) == ("", True)
    assert told(events, ToolStarted)[0].arguments == "prose"
    assert model.requests[3].messages[2].tool_calls[0].arguments == "{}"
    assert (toolenv.calls, end_of(events).kind) == ([], "answered")


def test_a_violated_schema_is_an_observation_and_no_tool_is_asked() -> None:
    model = ScriptedModel([reply((HELLO_NAME, '{"n": "five", "m": 1}')), answer("x")])
    toolenv = FakeToolEnv(DOCUMENTS)
    (finished, _) = told(run(model, toolenv), ToolFinished)
    error = json.loads(finished.observation)["error"]
    assert "'n' must be a number, not \"five\"" in error
    assert "there is no parameter 'm'" in error
    assert (finished.status, toolenv.calls) == ("invalid_arguments", [])


def test_a_reply_that_was_cut_off_is_asked_for_again_with_more_room() -> None:
    model = CutModel(
        [reply((HELLO_NAME, '{"n')), reply((HELLO_NAME, '{"n": ')), answer("x")], n_cut=2
    )
    events = run(model)
    first = model.requests[0].max_tokens
    assert [request.max_tokens // first for request in model.requests] == [1, 2, 4]
    assert {len(request.messages) for request in model.requests} == {2}
    assert end_of(events).answer == "x"


def test_a_whole_call_in_a_reply_that_was_cut_off_is_used() -> None:
    model = CutModel([reply((HELLO_NAME, GOOD)), answer("x")], n_cut=1)
    toolenv = FakeToolEnv(DOCUMENTS)
    (first, _) = told(run(model, toolenv), ModelReplied)
    assert (first.reading, first.repairs, len(toolenv.calls)) == ("truncated", 0, 1)


def test_a_budget_that_is_spent_stops_the_repair_and_the_run() -> None:
    model = ScriptedModel(lambda _: reply((HELLO_NAME, "prose")))
    end = end_of(run(model, limits=Limits(max_llm_calls=2)))
    assert (end.kind, end.limit, end.llm_calls) == ("exhausted", "max_llm_calls", 2)


def test_with_the_quirk_nothing_is_mended_checked_or_asked_again() -> None:
    model = ScriptedModel([reply((HELLO_NAME, "{'m': 1}")), answer("x")])
    toolenv = FakeToolEnv(DOCUMENTS)
    events = run(model, toolenv, compat=TOOLBENCH)
    assert [one.arguments_text for one in toolenv.calls] == ["{'m': 1}"]
    assert end_of(events).readings == {"unreadable_arguments": 1, "well_formed": 1}


HOSTILE = [
    *("", "null", "[]", "{", "}", "{'n': 1}", '{"n": 1', '{"n": 1}{"n": 1}', "{{}}", '{"n": NaN}'),
    *('{"n": 1e400}', '{"n": "\\ud800"}', '{"n": "\ud800"}', "\x00", '{"\x00": 1}', "prose {x}"),
    *('{"n": ' + "[" * 3_000, '{"a":' * 3_000, "[" * 3_000 + "]" * 3_000, '{"n": ' + "9" * 5_000),
    *('{"n": 1, "n": "x"}', '{"": 1}', json.dumps({"n" * 5_000: 1}), "天" * 100, "x" * 70_000),
    *("{'return_type': 'give_answer'", '{"return_type": ["give_answer"]}', '{"return_type": {}}'),
    f"{GOOD}\nAction: {OTHER_NAME}\nAction Input: {{}}",
]
NAMES = [
    HELLO_NAME,
    "Finish",
    "",
    "n" * 10_000,
    "\ud800",
    f" {HELLO_NAME}()",
    "a.b",
    "\x00",
    "nish",
]
CALLS = st.builds(
    MessageToolCall,
    id=st.sampled_from(["", "x", "\ud800"]),
    name=st.sampled_from(NAMES) | st.text(max_size=5),
    arguments=st.sampled_from(HOSTILE) | st.text(max_size=12),
)
REPLIES = st.builds(
    said,
    CALLS,
    content=st.none() | st.sampled_from(["", "hm", "\ud800", "<tool_call>{", *HOSTILE[-3:]]),
) | st.builds(lambda calls: said(*calls), st.lists(CALLS, max_size=3))


@settings(max_examples=40, deadline=None)
@given(
    replies=st.lists(REPLIES, min_size=1, max_size=4),
    compat=st.sampled_from([NONE, TOOLBENCH]),
    method=st.sampled_from(["CoT@1", "DFS_woFilter_w2"]),
)
def test_whatever_a_model_writes_the_run_ends_and_never_fails(
    replies: list[Message], compat: Compat, method: str
) -> None:
    n_read = 0

    def model(_: ChatRequest) -> Message:
        nonlocal n_read
        n_read += 1
        return replies[n_read % len(replies)]

    limits = Limits(max_depth=6, max_llm_calls=8)
    events = run(ScriptedModel(model), compat=compat, limits=limits, method=method)
    end = end_of(events)
    assert end.kind in {"answered", "gave_up", "exhausted"}, end.reason
    assert [isinstance(event, RunEnded) for event in events].count(True) == 1
    json.dumps([event.model_dump(mode="json") for event in events], ensure_ascii=False).encode()


@pytest.mark.parametrize("arguments", HOSTILE)
def test_hostile_arguments_are_an_observation_or_a_call(arguments: str) -> None:
    def model(request: ChatRequest) -> Message:
        is_told = request.messages[-1].role == "tool"
        return answer("x") if is_told else reply((HELLO_NAME, arguments))

    end = end_of(run(ScriptedModel(model)))
    assert (end.kind, sum(end.readings.values())) == ("answered", end.llm_calls)

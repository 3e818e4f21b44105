"""DFSDT's control flow against the reference's vectors."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.contracts.compat import NONE, TOOLBENCH, Compat
from services.contracts.llm import ChatRequest, Message
from services.contracts.planner import (
    ExpansionFinished,
    ExpansionStarted,
    Limits,
    PlanEvent,
    SolveRequest,
    ToolFinished,
)
from services.planner.service import PlannerService
from tests.fakes.planner_ports import (
    HELLO,
    HELLO_NAME,
    OTHER,
    FakeToolEnv,
    ScriptedModel,
    answer,
    end_of,
    events_of,
    give_up,
    reply,
)

pytestmark = pytest.mark.anyio

DEPTH_12 = Limits(max_depth=12, max_llm_calls=200)
CALL = (HELLO_NAME, "{}")


def step(text: str = "go on") -> Message:
    """A reply of three units: thought, action, input."""
    return reply(CALL, thought=text)


async def run(
    model: ScriptedModel,
    *,
    compat: Compat = TOOLBENCH,
    limits: Limits = DEPTH_12,
    method: str = "DFS_woFilter_w2",
) -> list[PlanEvent]:
    planner = PlannerService(model=model, toolenv=FakeToolEnv(), retriever=None)
    request = SolveRequest(
        instruction="say hello",
        method=method,
        apis=(HELLO, OTHER),
        limits=limits,
        compat=compat,
        record=True,
    )
    return await events_of(planner, request)


def tree_of(events: Sequence[PlanEvent]) -> dict:
    return end_of(events).record["tree"]


async def test_a_model_that_never_finishes_is_asked_30_times() -> None:
    end = end_of(await run(ScriptedModel(lambda _: step())))
    assert (end.kind, end.llm_calls) == ("exhausted", 30)
    assert "max_depth=12" in end.reason


async def test_two_units_a_step_make_a_tree_of_126_calls() -> None:
    end = end_of(await run(ScriptedModel(lambda _: reply(CALL))))
    assert end.llm_calls == 126


async def test_giving_up_at_once_ends_the_search_after_one_call() -> None:
    end = end_of(await run(ScriptedModel(lambda _: give_up("no"))))
    assert (end.kind, end.llm_calls) == ("gave_up", 1)
    assert end.record["answer_generation"]["finish_type"] == "give_up"


async def test_giving_up_at_once_leaves_the_root_its_other_attempt_without_the_quirk() -> None:
    end = end_of(await run(ScriptedModel([give_up(), answer("hello")]), compat=NONE))
    assert (end.kind, end.llm_calls, end.answer) == ("answered", 2, "hello")


async def test_giving_up_on_every_second_step_takes_four_calls() -> None:
    model = ScriptedModel([step(), give_up("a"), step(), give_up("b")])
    end = end_of(await run(model))
    assert (end.kind, end.llm_calls) == ("gave_up", 4)


async def test_answering_first_takes_one_call() -> None:
    end = end_of(await run(ScriptedModel([answer("hi")])))
    assert (end.kind, end.llm_calls, end.answer) == ("answered", 1, "hi")


async def test_the_call_limit_stops_at_that_call_and_throws_its_reply_away() -> None:
    events = await run(
        ScriptedModel(lambda _: step()), limits=Limits(max_depth=12, max_llm_calls=10)
    )
    end = end_of(events)
    assert (end.kind, end.llm_calls) == ("exhausted", 10)
    assert end.reason == "max_llm_calls=10 was reached"
    assert sum(isinstance(event, ToolFinished) for event in events) == 9


async def test_the_call_limit_uses_its_last_reply_without_the_quirk() -> None:
    limits = Limits(max_depth=12, max_llm_calls=2)
    end = end_of(await run(ScriptedModel([step(), answer("x")]), compat=NONE, limits=limits))
    assert (end.kind, end.llm_calls) == ("answered", 2)


async def test_a_give_up_stops_its_parent_and_the_grandparent_goes_on() -> None:
    # root -> A -> B -> give up: B's other attempt is skipped, A's is not.
    model = ScriptedModel([step("A"), step("B"), give_up("C"), answer("from A")])
    events = await run(model)
    root = tree_of(events)["tree"]
    (a_thought,) = root["children"]
    a_input = a_thought["children"][0]["children"][0]
    assert [child["description"] for child in a_input["children"]] == ["B", "Finish"]
    assert end_of(events).answer == "from A"


async def test_the_depth_limit_leaves_the_parent_its_other_attempt() -> None:
    limits = Limits(max_depth=6)
    model = ScriptedModel([step("A"), step("B"), answer("second try below A")])
    assert end_of(await run(model, limits=limits)).kind == "answered"


async def test_a_thought_alone_is_expanded_like_any_other_node() -> None:
    model = ScriptedModel([Message(role="assistant", content="hm"), answer("done")])
    events = await run(model)
    thought = tree_of(events)["tree"]["children"][0]
    assert (thought["node_type"], thought["expand_num"]) == ("Thought", 1)
    assert thought["children"][0]["description"] == "Finish"


async def test_an_empty_reply_still_makes_the_branch_longer() -> None:
    model = ScriptedModel(lambda _: Message(role="assistant"))
    end = end_of(await run(model, limits=Limits(max_depth=3)))
    assert (end.kind, end.llm_calls) == ("exhausted", 14)


async def test_calls_of_one_reply_are_chained_on_one_branch() -> None:
    model = ScriptedModel([reply(CALL, CALL, thought="both"), answer("x")])
    events = await run(model)
    assert tree_of(events)["max_length"] == 1 + 1 + 4 + 2
    assert [m.role for m in model.requests[1].messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
    ]


async def test_calls_after_a_finish_are_not_run() -> None:
    finish = ("Finish", '{"return_type": "give_answer", "final_answer": "x"}')
    events = await run(ScriptedModel([reply(finish, CALL)]))
    end = end_of(events)
    assert (end.kind, end.tool_calls) == ("answered", 0)


async def test_an_invented_name_is_hidden_from_later_steps_but_kept_in_the_tree() -> None:
    model = ScriptedModel([reply(("made_up", "{}")), answer("x")])
    events = await run(model)
    shown = model.requests[1].messages
    assert shown[2].tool_calls[0].name == "invalid_hallucination_function_name"
    assert shown[3].name == "invalid_hallucination_function_name"
    assert tree_of(events)["tree"]["children"][0]["description"] == "made_up"


@pytest.mark.parametrize(
    ("compat", "second_name"),
    [(TOOLBENCH, "made_up"), (NONE, "invalid_hallucination_function_name")],
)
async def test_only_the_first_call_is_renamed_in_toolbench_mode(
    compat: Compat, second_name: str
) -> None:
    model = ScriptedModel([reply(CALL, ("made_up", "{}")), answer("x")])
    await run(model, compat=compat)
    assert model.requests[1].messages[2].tool_calls[1].name == second_name


async def test_earlier_candidates_are_listed_for_the_call_that_must_differ_and_hidden_later() -> (
    None
):
    model = ScriptedModel([step("A"), give_up("B"), step("C"), answer("x")])
    await run(model)
    # The roles of the four calls of the reference's example.
    assert [[m.role for m in r.messages] for r in model.requests] == [
        ["system", "user"],
        ["system", "user", "assistant", "tool"],
        ["system", "user", "user"],
        ["system", "user", "assistant", "tool"],
    ]


async def test_events_come_in_the_order_of_the_references_example() -> None:
    model = ScriptedModel(
        [
            step("call it"),
            give_up("give up here"),
            reply(("say_hi_for_hello_world", "{}"), thought="other way"),
            answer("hello world", "answer now"),
        ]
    )
    events = await run(model)
    told = [(event.kind, event.expansion, getattr(event, "code", None)) for event in events[1:-1]]
    assert told == [
        ("expansion_started", 1, None),
        ("model_replied", 1, None),
        ("tool_started", 1, None),
        ("tool_finished", 1, 0),
        ("expansion_started", 2, None),
        ("model_replied", 2, None),
        ("tool_started", 2, None),
        ("tool_finished", 2, 4),
        ("expansion_finished", 2, None),
        ("expansion_finished", 1, None),
        ("expansion_started", 3, None),
        ("model_replied", 3, None),
        ("tool_started", 3, None),
        ("tool_finished", 3, 1),
        ("expansion_started", 4, None),
        ("model_replied", 4, None),
        ("tool_started", 4, None),
        ("tool_finished", 4, 3),
        ("expansion_finished", 4, None),
        ("expansion_finished", 3, None),
    ]
    tree = tree_of(events)
    assert (tree["size"], tree["max_length"]) == (13, 7)


async def test_announced_messages_rebuild_what_the_model_was_shown() -> None:
    model = ScriptedModel([step("A"), step("B"), give_up("C"), step("D"), answer("x")])
    events = await run(model)
    histories: dict[int | None, list] = {None: []}
    starts = [event for event in events if isinstance(event, ExpansionStarted)]
    for start, request in zip(starts, model.requests, strict=True):
        history = [*histories[start.base_node_id], *start.messages]
        histories[start.node_id] = history
        shown = [e.message for e in history if not e.hidden or e is history[-1]]
        assert tuple(shown) == request.messages


async def test_no_expansion_is_closed_when_the_budget_ends_the_run() -> None:
    events = await run(ScriptedModel(lambda _: step()), limits=Limits(max_llm_calls=3))
    assert not [event for event in events if isinstance(event, ExpansionFinished)]


MOVES = {
    "call": step(),
    "bare": reply(CALL),
    "two": reply(CALL, ("made_up", "{")),
    "think": Message(role="assistant", content="hm"),
    "give_up": give_up(),
    "bad": reply(("Finish", "{}")),
    "answer": answer("x"),
}


@settings(max_examples=60, deadline=None)
@given(
    moves=st.lists(st.sampled_from(sorted(MOVES)), min_size=1, max_size=12),
    width=st.integers(1, 3),
    depth=st.integers(1, 9),
    compat=st.sampled_from([NONE, TOOLBENCH]),
    method=st.sampled_from(["DFS_woFilter_w", "CoT@"]),
)
def test_whatever_the_model_does_the_run_ends_and_its_books_balance(
    moves: list[str], width: int, depth: int, compat: Compat, method: str
) -> None:
    def model(request: ChatRequest) -> Message:
        return MOVES[moves[len(scripted.requests) % len(moves)]]

    scripted = ScriptedModel(model)
    limits = Limits(max_depth=depth, max_llm_calls=25)
    events = asyncio.run(run(scripted, compat=compat, limits=limits, method=f"{method}{width}"))
    end = end_of(events)
    assert [event.sequence for event in events] == list(range(len(events)))
    assert end.llm_calls == len(scripted.requests)
    assert end.llm_calls <= 25 or (compat.cot_ignores_call_limit and method == "CoT@")
    assert end.kind in {"answered", "gave_up", "exhausted"}
    trees = [end.record["tree"]["tree"]] if "tree" in end.record else []
    assert [count(tree) for tree in trees] == [end.record["tree"]["size"] for _ in trees]


def count(node: dict) -> int:
    return 1 + sum(count(child) for child in node["children"])

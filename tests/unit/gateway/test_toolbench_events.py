"""Lines of ToolBench's `/stream` (interop sections 6.2, 6.4 and Appendix B)."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.events.toolbench import ToolBenchTranslator, encode, request_error, retrieval_started
from services.contracts.errors import Unavailable
from services.contracts.llm import Message, Usage
from services.contracts.planner import (
    ExpansionFinished,
    ExpansionStarted,
    HistoryMessage,
    ModelDelta,
    ModelReplied,
    PlanEvent,
    Retrieved,
    RunEnded,
    ToolFinished,
    ToolStarted,
)
from services.contracts.toolenv import CallStatus
from tests.fakes import plan_runs
from tests.fakes.plan_trace import Trace, schema, user

# Appendix B, written out: method, block, depth (None where the event has none), status.
EXAMPLE = [
    ("on_tool_retrieval_start", "recommendation-1", None, None),
    ("on_tool_retrieval_end", "recommendation-1", None, None),
    ("on_request_start", "start", None, None),
    ("on_chain_start", "llm-1", 0, None),
    ("on_llm_start", "llm-1", 0, None),
    ("on_llm_end", "llm-1", 0, None),
    ("on_agent_action", "tool-1", 0, None),
    ("on_tool_start", "tool-1", 0, None),
    ("on_tool_end", "tool-1", 0, 0),
    ("on_chain_start", "llm-2", 1, None),
    ("on_llm_start", "llm-2", 1, None),
    ("on_llm_end", "llm-2", 1, None),
    ("on_agent_action", "tool-2", 1, None),
    ("on_tool_start", "tool-2", 1, None),
    ("on_tool_end", "tool-2", 1, 4),
    ("on_chain_end", "llm-2", 1, None),
    ("on_agent_end", "tool-2", 1, None),
    ("on_chain_end", "llm-1", 0, None),
    ("on_agent_end", "tool-1", 0, None),
    ("on_chain_start", "llm-3", 0, None),
    ("on_llm_start", "llm-3", 0, None),
    ("on_llm_end", "llm-3", 0, None),
    ("on_agent_action", "tool-3", 0, None),
    ("on_tool_start", "tool-3", 0, None),
    ("on_tool_end", "tool-3", 0, 1),
    ("on_chain_start", "llm-4", 1, None),
    ("on_llm_start", "llm-4", 1, None),
    ("on_llm_end", "llm-4", 1, None),
    ("on_agent_action", "tool-4", 1, None),
    ("on_tool_start", "tool-4", 1, None),
    ("on_tool_end", "tool-4", 1, 3),
    ("on_chain_end", "llm-4", 1, None),
    ("on_agent_end", "tool-4", 1, None),
    ("on_chain_end", "llm-3", 0, None),
    ("on_agent_end", "tool-3", 0, None),
    ("on_request_end", "end", None, None),
]


def translate(events: list[PlanEvent], instruction: str = "say hello") -> list[dict]:
    translator = ToolBenchTranslator(instruction=instruction, method="DFS_woFilter_w2")
    lines = [retrieval_started()]
    for event in events:
        lines.extend(translator.translate(event))
    return [json.loads(encode(line)) for line in lines]


def of(lines: list[dict], method_name: str) -> list[dict]:
    return [line for line in lines if line["method_name"] == method_name]


def started(
    node: int, *, depth: int, expansion: int, base: int | None, text: str = "x"
) -> ExpansionStarted:
    return ExpansionStarted(
        node_id=node, depth=depth, expansion=expansion, base_node_id=base, messages=(user(text),)
    )


def test_the_example_of_the_specification_gives_its_events_in_its_order():
    lines = translate(plan_runs.toolbench_example())
    shape = [
        (line["method_name"], line["block_id"], line.get("depth"), line.get("status"))
        for line in lines
    ]
    assert shape == EXAMPLE


def test_keys_of_each_event_come_in_the_order_of_the_specification():
    keys = {line["method_name"]: list(line) for line in translate(plan_runs.toolbench_example())}
    common = ["method_name", "block_id"]
    assert keys == {
        "on_tool_retrieval_start": common,
        "on_tool_retrieval_end": [*common, "recommendations"],
        "on_request_start": [*common, "user_input", "method"],
        "on_chain_start": [*common, "messages", "depth"],
        "on_llm_start": [*common, "messages", "depth"],
        "on_llm_end": [*common, "response", "depth"],
        "on_agent_action": [*common, "action", "action_input", "depth"],
        "on_tool_start": [*common, "tool_name", "tool_description", "tool_input", "depth"],
        "on_tool_end": [*common, "output", "status", "depth"],
        "on_chain_end": [*common, "depth"],
        "on_agent_end": [*common, "depth"],
        "on_request_end": [*common, "output", "chain"],
    }


def test_histories_are_rebuilt_from_the_planners_deltas():
    lines = translate(plan_runs.toolbench_example())
    roles = [[m["role"] for m in line["messages"]] for line in of(lines, "on_chain_start")]
    assert roles == [
        ["system", "user"],
        ["system", "user", "assistant", "function"],
        ["system", "user", "user"],
        ["system", "user", "user", "assistant", "function"],
    ]


def test_a_hidden_message_is_marked_and_an_earlier_line_does_not_change_with_later_ones():
    chains = of(translate(plan_runs.toolbench_example()), "on_chain_start")
    assert [m.get("valid") for m in chains[2]["messages"]] == [None, None, False]
    assert len(chains[0]["messages"]) == 2


def test_a_translated_line_is_a_snapshot_and_not_the_live_history():
    translator = ToolBenchTranslator(instruction="x", method="m")
    first = translator.translate(started(0, depth=0, expansion=1, base=None))
    before = encode(first[0])
    translator.translate(started(0, depth=0, expansion=2, base=0))
    assert encode(first[0]) == before


def test_messages_have_the_form_of_2023():
    chain = of(translate(plan_runs.toolbench_example()), "on_chain_start")[1]["messages"]
    assert chain[2]["function_call"] == {
        "name": "get_hello_world_for_hello_world",
        "arguments": "{}",
    }
    assert chain[3]["name"] == "get_hello_world_for_hello_world"


def test_recommendations_are_the_whole_function_list_with_finish_last():
    (line,) = of(translate(plan_runs.toolbench_example()), "on_tool_retrieval_end")
    assert [f["name"] for f in line["recommendations"]] == [
        "get_hello_world_for_hello_world",
        "Finish",
    ]
    assert set(line["recommendations"][0]) == {"name", "description", "parameters"}


def test_a_known_tool_is_described_and_an_invented_one_is_not():
    tools = of(translate(plan_runs.toolbench_example()), "on_tool_start")
    assert tools[0]["tool_description"]["name"] == tools[0]["tool_name"]
    assert tools[2]["tool_description"] == "Tool not found in tool descriptions"


def test_the_answer_is_strict_json_even_when_the_model_wrote_something_else():
    trace = Trace("x")
    events = trace.end(answer='line one\nline "two"', final_arguments='{"final_answer": "line\n')
    (line,) = of(translate(events), "on_request_end")
    assert json.loads(line["output"], strict=True) == {
        "return_type": "give_answer",
        "final_answer": 'line one\nline "two"',
    }


@pytest.mark.parametrize(
    ("kind", "reason", "expected"),
    [
        ("gave_up", None, "the model gave up"),
        ("exhausted", "max_llm_calls=60", "max_llm_calls=60"),
        ("cancelled", None, "cancelled"),
        ("failed", "broken", "broken"),
    ],
)
def test_a_run_without_an_answer_ends_with_an_error_line(kind, reason, expected):
    line = translate([RunEnded(kind=kind, reason=reason)])[-1]
    assert (line["method_name"], line["block_id"]) == ("on_request_error", "error")
    assert expected in line["error"]


def test_a_best_effort_is_shown_as_an_answer_that_says_so():
    end = RunEnded(
        kind="exhausted", reason="max_llm_calls=60", answer="about 20 degrees", is_best_effort=True
    )
    line = translate([end])[-1]
    text = json.loads(line["output"])["final_answer"]
    assert line["method_name"] == "on_request_end"
    assert text.startswith("(Best effort") and text.endswith("about 20 degrees")
    assert "max_llm_calls=60" in text


def test_a_failed_service_is_named_in_the_error_line():
    problem = Unavailable("no model at 127.0.0.1:8001").to_problem()
    line = translate([RunEnded(kind="failed", problem=problem)])[-1]
    assert line == request_error("Unavailable: no model at 127.0.0.1:8001")


def test_replies_in_the_making_have_no_line():
    delta = ModelDelta(node_id=0, expansion=1, depth=0, text="x")
    assert ToolBenchTranslator(instruction="x", method="m").translate(delta) == []


def test_lines_are_ascii():
    assert encode(request_error("天气 é\u2028")).isascii()


def test_a_number_that_json_cannot_write_becomes_null():
    parameters = {"properties": {"a": {"example_value": float("nan")}, "b": [float("inf"), 1.5]}}
    function = schema("f").model_copy(update={"parameters": parameters})
    translator = ToolBenchTranslator(instruction="x", method="m")
    text = encode(translator.translate(Retrieved(functions=(function,)))[0])
    (sent,) = json.loads(text, parse_constant=pytest.fail)["recommendations"]
    assert sent["parameters"] == {"properties": {"a": {"example_value": None}, "b": [None, 1.5]}}


def test_several_calls_in_one_reply_raise_the_depth_by_one_only():
    # Three calls and a thought below the root: the next node is 7 edges deep, its child 14.
    lines = translate(
        [
            started(0, depth=0, expansion=1, base=None),
            started(7, depth=7, expansion=2, base=0),
            started(14, depth=14, expansion=3, base=7),
            started(7, depth=7, expansion=4, base=7),
            started(0, depth=0, expansion=5, base=0),
        ]
    )
    assert [line["depth"] for line in of(lines, "on_chain_start")] == [0, 1, 2, 1, 0]


def test_steps_of_two_edges_have_the_references_depth():
    lines = translate(
        [
            started(0, depth=0, expansion=1, base=None),
            started(2, depth=2, expansion=2, base=0),
            started(4, depth=4, expansion=3, base=2),
        ]
    )
    assert [line["depth"] for line in of(lines, "on_chain_start")] == [0, 0, 1]


# Any planner, even a broken one: the UI's parser must survive what comes out.
_AT = {
    "node_id": st.integers(0, 5),
    "expansion": st.integers(1, 5),
    "depth": st.integers(0, 40),
}
_MESSAGES = st.builds(
    Message, role=st.sampled_from(["system", "user", "assistant", "tool"]), content=st.text()
)
_SCHEMAS = st.builds(schema, st.text(), st.text())
_ANY_EVENT = st.one_of(
    st.builds(Retrieved, functions=st.lists(_SCHEMAS, max_size=3).map(tuple)),
    st.builds(
        ExpansionStarted,
        **_AT,
        base_node_id=st.none() | st.integers(0, 5),
        messages=st.lists(st.builds(HistoryMessage, message=_MESSAGES), max_size=2).map(tuple),
    ),
    st.builds(ModelDelta, **_AT, text=st.text()),
    st.builds(
        ModelReplied, **_AT, message=_MESSAGES, usage=st.just(Usage()), latency_s=st.just(0.1)
    ),
    st.builds(
        ToolStarted, **_AT, call_id=st.integers(1, 9), function=st.text(), arguments=st.text()
    ),
    st.builds(
        ToolFinished,
        **_AT,
        call_id=st.integers(1, 9),
        observation=st.text(),
        status=st.sampled_from(CallStatus),
        code=st.integers(-1, 12),
        source=st.sampled_from(["custom", "error"]),
        latency_s=st.just(0.1),
    ),
    st.builds(ExpansionFinished, **_AT, call_id=st.none() | st.integers(1, 9)),
    st.builds(
        RunEnded,
        kind=st.sampled_from(["answered", "gave_up", "exhausted", "cancelled", "failed"]),
        answer=st.none() | st.text(),
        reason=st.none() | st.text(),
    ),
)


@given(st.lists(_ANY_EVENT, max_size=12))
def test_any_sequence_of_events_gives_objects_with_a_string_block_id(events):
    lines = translate(events)
    assert all(isinstance(line["block_id"], str) for line in lines)


@given(st.lists(_ANY_EVENT, max_size=12))
def test_the_depth_never_jumps_by_two_and_starts_at_zero(events):
    depths = [line["depth"] for line in translate(events) if "depth" in line]
    starts = [line["depth"] for line in of(translate(events), "on_chain_start")]
    steps = [after - before for before, after in zip([-1, *starts], starts, strict=False)]
    assert all(step <= 1 for step in steps)
    assert all(depth >= 0 for depth in depths)


@given(st.lists(_ANY_EVENT, max_size=12))
def test_only_the_known_blocks_carry_the_uis_group_names(events):
    known = re.compile(r"recommendation-1|start|end|error|llm-[1-9]\d*|tool-[1-9]\d*")
    assert all(known.fullmatch(line["block_id"]) for line in translate(events))

"""Answer files: the reference's example, field by field."""

import json

import pytest

from services.contracts.compat import NONE, TOOLBENCH
from services.contracts.llm import Message
from services.contracts.planner import Limits, RunEnded, SolveRequest
from services.planner.action_space import build_action_space
from services.planner.budget import Budget
from services.planner.record import MAX_WIRE_LEVELS, build_record, fitted_to_wire
from services.planner.search.base import Found
from services.planner.search.methods import search_method
from services.planner.service import PlannerService
from services.planner.tree import NodeFactory, extend
from tests.fakes.planner_ports import (
    HELLO,
    HELLO_NAME,
    FakeToolEnv,
    ScriptedModel,
    answer,
    document,
    end_of,
    events_of,
    give_up,
    reply,
)

pytestmark = pytest.mark.anyio


async def example() -> dict:
    """The run of the reference's own example: beam 2, two units of failure, one of success."""
    model = ScriptedModel(
        [
            reply((HELLO_NAME, "{}"), thought="call it"),
            give_up("give up here"),
            reply(("say_hi_for_hello_world", "{}"), thought="other way"),
            answer("hello world", "answer now"),
        ]
    )
    request = SolveRequest(
        instruction="say hello",
        apis=(HELLO,),
        limits=Limits(max_depth=12),
        compat=TOOLBENCH,
        record=True,
    )
    planner = PlannerService(model=model, toolenv=FakeToolEnv(), retriever=None)
    return end_of(await events_of(planner, request)).record


async def test_the_file_has_the_references_keys_in_order_and_then_our_own() -> None:
    record = await example()
    assert list(record) == [
        "win",
        "tree",
        "forward_args",
        "compare_candidates",
        "answer_generation",
        "toolwright",  # ours, behind theirs
    ]
    assert record["forward_args"] == {
        "single_chain_max_step": 12,
        "tree_beam_size": 2,
        "max_query_count": 200,
        "answer": 1,
        "with_filter": False,
    }


async def test_the_generation_names_the_answer_and_its_cost() -> None:
    generation = (await example())["answer_generation"]
    assert generation["valid_data"] is True
    assert (generation["query_count"], generation["total_tokens"]) == (4, 48)
    assert json.loads(generation["final_answer"])["final_answer"] == "hello world"
    assert (generation["finish_type"], generation["query"]) == ("give_answer", "say hello")
    assert [f["function"]["name"] for f in generation["function"]] == [HELLO_NAME, "Finish"]


def outline(node: dict) -> list:
    flags = [name for name in ("pruned", "finished") if node[name]]
    seen = [node["description"], node["depth"], node["expand_num"], node.get("observation_code")]
    return [seen, flags, [outline(child) for child in node["children"]]]


async def test_the_tree_is_the_references() -> None:
    finish = '{"return_type": "give_answer", "final_answer": "hello world"}'
    give = '{"return_type": "give_up_and_restart"}'
    done = ["finished"]
    end = [[finish, 6, 4, 3], done, []]
    second = [["{}", 3, 3, 1], done, [[["answer now", 4, 0, None], done, [_finish(end, done)]]]]
    first = [
        ["{}", 3, 1, 0],
        [],
        [[["give up here", 4, 0, None], [], [_finish([[give, 6, 2, 4], ["pruned"], []], [])]]],
    ]
    assert outline((await example())["tree"]["tree"]) == [
        ["", 0, 0, None],
        done,
        [
            [["call it", 1, 0, None], [], [[[HELLO_NAME, 2, 0, None], [], [first]]]],
            [
                ["other way", 1, 0, None],
                done,
                [[["say_hi_for_hello_world", 2, 0, None], done, [second]]],
            ],
        ],
    ]


def _finish(end: list, flags: list) -> list:
    return [["Finish", 5, 0, None], flags, [end]]


async def test_nodes_leave_out_what_the_reference_leaves_out() -> None:
    thought = (await example())["tree"]["tree"]["children"][0]
    action_input = thought["children"][0]["children"][0]
    assert list(thought) == [
        "is_terminal",
        "pruned",
        "finished",
        "depth",
        "node_type",
        "description",
        "Elo",
        "child_count",
        "expand_num",
        "children",
    ]
    assert list(action_input)[7:] == [
        "observation",
        "observation_code",
        "child_count",
        "expand_num",
        "io_state",
        "children",
    ]


async def test_train_messages_are_one_dialogue_per_predicted_message() -> None:
    dialogues = (await example())["answer_generation"]["train_messages"]
    told = [[(m["role"], m.get("valid", True)) for m in dialogue] for dialogue in dialogues]
    opening = [("system", True), ("user", True), ("user", False), ("assistant", True)]
    assert told == [opening, [*opening, ("tool", True), ("assistant", True)]]
    call = dialogues[0][3]["tool_calls"][0]["function"]
    assert call == {"name": "invalid_hallucination_function_name", "arguments": "{}"}
    assert dialogues[1][4]["name"] == "invalid_hallucination_function_name"


async def test_the_candidate_is_the_path_of_the_answer_without_the_root() -> None:
    ((*path,),) = (await example())["compare_candidates"]
    assert [node["description"] for node in path[:3]] == [
        "other way",
        "say_hi_for_hello_world",
        "{}",
    ]
    assert all("children" not in node for node in path)


async def test_how_a_file_came_about_stands_in_a_last_key_of_its_own() -> None:
    root = NodeFactory().root(extend(None, Message(role="user", content="say hello")))
    about = {
        "method": search_method("DFS_w2"),
        "instruction": "say hello",
        "found": Found(roots=[root]),
        "space": build_action_space([document()], compat=NONE),
        "budget": Budget(Limits()),
    }
    plain = build_record(**about)
    told = build_record(**about, provenance={"mode": "exact", "seed": 7})
    assert list(told) == [*plain, "toolwright"]
    assert told["toolwright"] == {"mode": "exact", "seed": 7}
    assert {key: told[key] for key in plain} == plain


def test_a_record_too_deep_for_json_readers_stays_behind_with_the_reason() -> None:
    ended = RunEnded(
        kind="answered", answer="x", record={"tree": {"max_length": MAX_WIRE_LEVELS + 1}}
    )
    fitted = fitted_to_wire(ended)
    assert (fitted.record, fitted.answer) == (None, "x")
    assert str(MAX_WIRE_LEVELS) in fitted.reason


def test_an_ordinary_record_crosses_unchanged() -> None:
    ended = RunEnded(kind="answered", record={"tree": {"max_length": 5}})
    assert fitted_to_wire(ended) is ended

"""The two prompt profiles."""

import json

from services.planner.prompts.base import Candidate
from services.planner.prompts.compact import CompactPrompts
from services.planner.prompts.toolbench import ToolBenchPrompts, ToolBenchTexts
from tests.fakes.planner_ports import document

TRIED = [Candidate("f", '{"a": [1]}', "x" * 300), Candidate("g", "{}", "é")]


def test_the_compact_list_is_one_line_of_json_with_short_outputs_after_one_sentence() -> None:
    text = CompactPrompts().diversity(TRIED, observation="ignored")
    assert "\n" not in text
    assert json.loads(text[text.index("[") :]) == [
        {"name": "f", "arguments": '{"a": [1]}', "function_output": "x" * 200},
        {"name": "g", "arguments": "{}", "function_output": "é"},
    ]


def test_the_compact_profile_adds_nothing_to_the_instruction() -> None:
    assert CompactPrompts().user("ask\n") == "ask\n"


def test_the_toolbench_list_is_indented_and_has_the_references_keys() -> None:
    text = ToolBenchPrompts().diversity(TRIED, observation="seen")
    listed, end = json.JSONDecoder().raw_decode(text[text.index("[") :])
    assert list(listed[0]) == [
        "name",
        "arguments",
        "function_output",
        "mento-carlo-action-value",
    ]
    assert listed[0]["function_output"] == "x" * 300
    after = text[text.index("[") + end :]
    assert after.startswith("\nagain, your former observation: seen\n")


def test_a_node_without_observation_mentions_none() -> None:
    assert "again" not in ToolBenchPrompts().diversity(TRIED, observation="")


def test_the_toolbench_frame_is_newline_text_begin() -> None:
    assert ToolBenchPrompts().user("ask") == "\nask\nBegin!\n"


def test_the_toolbench_system_message_ends_with_the_numbered_tools() -> None:
    text = ToolBenchPrompts().system([document()])
    assert text.endswith("\n1.hello_world: Greets.\n")


def test_a_users_own_texts_replace_ours() -> None:
    texts = ToolBenchTexts(system="S {task_description}", header="H\n", diversity="D")
    assert ToolBenchPrompts(texts).system([document()]) == "S H\n1.hello_world: Greets.\n"

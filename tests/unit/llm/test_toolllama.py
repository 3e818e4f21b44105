"""ToolLLaMA's prompt: as its training text, with the published fingerprint."""

import hashlib
import json
from pathlib import Path

from services.contracts.llm import ChatRequest, FunctionSchema, Message, MessageToolCall
from services.llm.dialects.toolllama import ToolLlamaDialect

TOOL = FunctionSchema(
    name="f", description="d", parameters={"type": "object", "properties": {}, "required": ["a"]}
)
CALL = MessageToolCall(id="call_0", name="f", arguments='{"a": 1}')
CONVERSATION = (
    Message(role="system", content="Be good."),
    Message(role="user", content="Go"),
    Message(role="assistant", content="First.", tool_calls=(CALL,)),
    Message(role="tool", name="f", content="one", tool_call_id="call_0"),
)


def prompt(*messages: Message, dialect: ToolLlamaDialect | None = None) -> str:
    request = ChatRequest(messages=messages or CONVERSATION, tools=(TOOL,))
    return (dialect or ToolLlamaDialect()).render(request)


def test_the_format_block_follows_the_anchor() -> None:
    anchor = "think, with a function call to actually excute your step."
    text = prompt(Message(role="system", content=f"{anchor}\nMore."))
    expected = (
        f"System: {anchor} Your output should follow this format:\nThought:\nAction\n"
        "Action Input:\n\nMore.\nSpecifically, you have access to the following APIs: [{'name': 'f'"
    )
    assert text.startswith(expected)


def test_without_the_anchor_the_block_is_appended() -> None:
    assert prompt().startswith("System: Be good.\nYour output should follow this format:\n")


def test_history_reads_as_in_training() -> None:
    assert prompt().endswith(
        'User: Go\nAssistant: \nThought: First.\nAction: f\nAction Input: {"a": 1}\n'
        "Function: one\nAssistant: \n"
    )


def test_history_can_drop_actions_as_toolbench_does() -> None:
    text = prompt(dialect=ToolLlamaDialect(history="thoughts"))
    assert text.endswith("User: Go\nAssistant: First.\nFunction: one\nAssistant:\n")


def test_history_can_be_raw_as_in_stabletoolbench() -> None:
    text = prompt(dialect=ToolLlamaDialect(history="raw"))
    assert "Assistant: Thought: First.\nAction: f\nAction Input:" in text


def test_a_thought_and_the_call_after_it_are_one_turn() -> None:
    text = prompt(
        Message(role="user", content="Go"),
        Message(role="assistant", content="First."),
        Message(role="assistant", tool_calls=(CALL,)),
    )
    assert text.count("Assistant:") == 2
    assert "Assistant: \nThought: First.\nAction: f\n" in text


def test_parallel_calls_become_steps_with_their_answers() -> None:
    second = CALL.model_copy(update={"id": "call_1", "name": "g"})
    text = prompt(
        Message(role="assistant", content="Both.", tool_calls=(CALL, second)),
        Message(role="tool", content="one", tool_call_id="call_0"),
        Message(role="tool", content="two", tool_call_id="call_1"),
    )
    assert "Action: f" in text.split("Function: one")[0]
    assert "Action: g" in text.split("Function: one")[1].split("Function: two")[0]


def test_call_ids_count_up_in_a_conversation() -> None:
    parser = ToolLlamaDialect().parser(ChatRequest(messages=CONVERSATION))
    parser.feed("Thought: a\nAction: f\nAction Input: {}")
    assert parser.message().tool_calls[0].id == "call_1"


def test_a_published_system_prompt_has_the_trained_fingerprint(shared_data: Path) -> None:
    path = next((shared_data / "toolbench_answers").glob("*/*_DFS_woFilter_w2.json"))
    first = json.loads(path.read_text(encoding="utf-8"))["answer_generation"]["train_messages"][0]
    text = prompt(Message(role="system", content=first[0]["content"]))
    trained = text.removeprefix("System: ")[:1427]
    assert (
        hashlib.sha256(trained.encode()).hexdigest()
        == "e4503313eef4b7c7d05e945da44bdb107a480bc5b001e55b990d07f84ba47216"
    )

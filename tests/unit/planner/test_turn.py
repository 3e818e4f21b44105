"""Fitting prompt and reply into the model's context, and what is shortened for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.llm import FunctionSchema, Message, MessageToolCall
from services.planner.compaction import OldestFirst, paired, trimmed
from services.planner.turn import TooLong, Turn, Turns, is_about_length, refused_numbers

SYSTEM = Message(role="system", content="You solve tasks.")
ASK = Message(role="user", content="What is the weather?")
TOOLS = (FunctionSchema(name="weather", description="Tells it.", parameters={"type": "object"}),)


def step(number: int, observation: str) -> tuple[Message, Message]:
    call = MessageToolCall(id=f"c{number}", name="weather", arguments='{"city": "Rome"}')
    return (
        Message(role="assistant", content=f"thought {number}", tool_calls=(call,)),
        Message(role="tool", name="weather", content=observation, tool_call_id=call.id),
    )


def conversation(*observations: str) -> tuple[Message, ...]:
    steps = [message for i, text in enumerate(observations) for message in step(i, text)]
    return (SYSTEM, ASK, *steps)


def turns_for(context: int | None) -> Turns:
    """That know their model's tokens to be four bytes long."""
    turns = Turns(context_tokens=context, compaction=OldestFirst())
    bare = Turns(context_tokens=1)
    size = bare.estimate((SYSTEM, ASK), TOOLS) * 3  # bytes, at the rate of the start
    turns.learn(Turn((SYSTEM, ASK), 1), TOOLS, max(int(size / 4), 1))
    return turns


def test_without_a_known_context_nothing_is_changed() -> None:
    messages = conversation("x" * 100_000)
    turn = Turns(compaction=OldestFirst()).fit(messages, TOOLS, wanted=512)
    assert turn == Turn(messages, 512)


def test_a_reply_gets_the_room_that_is_left() -> None:
    messages = conversation("x" * 2000)
    turns = turns_for(1000)
    turn = turns.fit(messages, TOOLS, wanted=512)
    assert turn.messages == messages
    assert 128 <= turn.max_tokens < 512


def test_old_observations_are_trimmed_before_steps_are_left_out() -> None:
    messages = conversation("a" * 2000, "b" * 2000, "c" * 2000)
    turn = turns_for(1600).fit(messages, TOOLS, wanted=256)
    assert len(turn.messages) == len(messages)
    assert "characters left out" in (turn.messages[3].content or "")
    assert turn.messages[-1] is messages[-1]


def test_old_steps_are_left_out_with_a_line_in_their_place() -> None:
    messages = conversation(*["x" * 900] * 20)
    turn = turns_for(1000).fit(messages, TOOLS, wanted=256)
    assert turn.messages[:2] == (SYSTEM, ASK)
    line = turn.messages[2]
    kept = (len(turn.messages) - 3) // 2
    assert line == Message(role="user", content=f"[{20 - kept} earlier steps are left out here.]")
    assert turn.messages[-2:] == messages[-2:]


def test_the_last_observation_is_trimmed_when_nothing_else_is_left() -> None:
    messages = conversation("head " * 2000 + "tail")
    turn = turns_for(1000).fit(messages, TOOLS, wanted=256)
    last = turn.messages[-1].content or ""
    assert last.startswith("head") and last.endswith("tail")


def test_long_replies_are_trimmed_when_no_observation_is_left_to_trim() -> None:
    reply = Message(role="assistant", content="head " * 2000 + "tail")
    question = Message(role="user", content="What follows?")
    turn = turns_for(1000).fit((SYSTEM, ASK, reply, question), TOOLS, wanted=256)
    shown = turn.messages[2].content or ""
    assert shown.startswith("head") and shown.endswith("tail")
    assert (turn.messages[:2], turn.messages[3]) == ((SYSTEM, ASK), question)


def test_a_notice_after_the_instruction_is_trimmed_and_a_question_after_all_else() -> None:
    notice, question = (Message(role="user", content=letter * 6000) for letter in "nq")
    turn = turns_for(2000).fit((SYSTEM, ASK, notice, question), TOOLS, wanted=256)
    n_notice, n_question = (len(message.content or "") for message in turn.messages[2:])
    assert (turn.messages[:2], n_notice < 600) == ((SYSTEM, ASK), True)
    assert 2000 < n_question < 6000


def test_what_cannot_be_shortened_enough_is_too_long() -> None:
    messages = (SYSTEM, Message(role="user", content="x" * 10_000))
    with pytest.raises(TooLong, match="holds 1000"):
        turns_for(1000).fit(messages, TOOLS, wanted=256)


def test_before_the_first_report_the_model_decides_what_is_too_long() -> None:
    messages = (SYSTEM, Message(role="user", content="x" * 10_000))
    turn = Turns(context_tokens=1000, compaction=OldestFirst()).fit(messages, TOOLS, wanted=256)
    assert (turn.messages, turn.max_tokens) == (messages, 64)


def test_without_a_compaction_only_the_reply_is_shortened() -> None:
    messages = conversation("x" * 100_000)
    turn = Turns(context_tokens=1000).fit(messages, TOOLS, wanted=256)
    assert turn.messages is messages
    assert turn.max_tokens == 1


def test_of_a_longer_prompt_only_the_new_part_is_estimated() -> None:
    messages = conversation("x" * 300)
    turns = Turns(context_tokens=10_000)
    turns.learn(Turn(messages, 1), TOOLS, 777)
    longer = (*messages, *step(9, "y" * 300))
    estimate = turns.estimate(longer, TOOLS)
    assert turns.estimate(messages, TOOLS) == 777
    assert 777 + 80 < estimate < 777 + 900


def test_another_conversation_with_the_same_last_message_is_not_taken_for_it() -> None:
    messages = conversation("x" * 300)
    turns = Turns(context_tokens=10_000)
    turns.learn(Turn(messages, 1), TOOLS, 777)
    other = (Message(role="system", content="z" * 3000), *messages)
    assert turns.estimate(other, TOOLS) > 777 * 1.1


def test_a_shortened_prompt_is_not_what_longer_ones_begin_with() -> None:
    messages = conversation("x" * 300)
    turns = Turns(context_tokens=10_000)
    turns.learn(Turn(messages, 1, is_compacted=True), TOOLS, 50)
    assert turns.estimate(messages, TOOLS) != 50


VLLM = (
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens "
    "(4488 in the messages, 512 in the completion). Please reduce the length of the messages."
)
NEW_VLLM = (
    "'max_tokens' or 'max_completion_tokens' is too large: 512. This model's maximum context "
    "length is 4096 tokens and your request has 3900 input tokens (512 > 4096 - 3900)."
)
OPENAI = (
    "This model's maximum context length is 8192 tokens. However, your messages resulted in "
    "8500 tokens."
)
LLAMA_CPP = "the request exceeds the available context size (4096 tokens), try increasing it"
OURS = "the prompt has 5000 tokens, the model's context holds 4096 with the reply; offer fewer APIs"


@pytest.mark.parametrize(
    ("detail", "numbers"),
    [
        (VLLM, (4096, 4488)),
        (NEW_VLLM, (4096, 3900)),
        (OPENAI, (8192, 8500)),
        (LLAMA_CPP, (4096, None)),
        (OURS, (4096, 5000)),
        ("prompt is too long", (None, None)),
    ],
)
def test_a_refusal_is_read_for_its_numbers(
    detail: str, numbers: tuple[int | None, int | None]
) -> None:
    assert is_about_length(detail)
    assert refused_numbers(detail) == numbers


def test_a_refusal_of_another_kind_teaches_nothing() -> None:
    turns = Turns(compaction=OldestFirst())
    turn = turns.fit(conversation("x"), TOOLS, wanted=64)
    assert not turns.learn_refusal(turn, TOOLS, "unknown field 'seed'")
    assert turns.context_tokens is None


def test_a_refusal_without_numbers_means_less_than_what_was_sent() -> None:
    turns = Turns(compaction=OldestFirst())
    messages = conversation(*["x" * 900] * 20)
    turn = turns.fit(messages, TOOLS, wanted=64)
    assert turns.learn_refusal(turn, TOOLS, "the prompt is too long")
    assert turns.context_tokens is not None
    shorter = turns.fit(messages, TOOLS, wanted=64)
    assert turns.estimate(shorter.messages, TOOLS) < 0.8 * turns.estimate(messages, TOOLS)


texts = st.text(max_size=30).flatmap(lambda part: st.integers(1, 60).map(lambda n: part * n))


@given(
    observations=st.lists(texts, max_size=12),
    context=st.integers(200, 4000),
    wanted=st.integers(1, 600),
)
def test_a_fitted_turn_is_whole_paired_and_within_the_context(
    observations: list[str], context: int, wanted: int
) -> None:
    messages = conversation(*observations)
    turns = turns_for(context)
    try:
        turn = turns.fit(messages, TOOLS, wanted=wanted)
    except TooLong:
        return
    assert turn.prompt_tokens is not None
    assert 1 <= turn.max_tokens <= wanted
    assert turn.prompt_tokens + turn.max_tokens <= context
    assert turn.messages[:2] == (SYSTEM, ASK)
    assert (turn.messages[-1].role, turn.messages[-1].tool_call_id) == (
        messages[-1].role,
        messages[-1].tool_call_id,
    )
    calls = [call.id for message in turn.messages for call in message.tool_calls]
    answers = [message.tool_call_id for message in turn.messages if message.role == "tool"]
    assert calls == answers


@given(text=st.text(max_size=300), kept=st.integers(1, 200))
def test_a_trimmed_text_keeps_its_ends_and_never_grows(text: str, kept: int) -> None:
    cut = trimmed(text, kept_chars=kept)
    tail = kept // 4
    assert len(cut) <= min(len(text), kept + 40)
    assert cut.startswith(text[: kept - tail])
    assert cut.endswith(text[len(text) - tail :] if len(text) > kept else text)


def test_calls_without_an_answer_are_left_out() -> None:
    calls = tuple(MessageToolCall(id=name, name="f", arguments="{}") for name in ("a", "b"))
    asked = Message(role="assistant", tool_calls=calls)
    answered = Message(role="tool", name="f", content="1", tool_call_id="a")
    kept = paired((SYSTEM, ASK, asked, answered))
    assert [call.id for message in kept for call in message.tool_calls] == ["a"]

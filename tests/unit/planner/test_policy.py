"""Asking the model, whole or piece by piece."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest

from services.contracts.compat import Compat
from services.contracts.errors import InvalidArgument, Unavailable
from services.contracts.llm import (
    ChatRequest,
    Completion,
    CompletionDelta,
    Message,
    MessageToolCall,
    Usage,
)
from services.contracts.planner import Limits, SolveRequest
from services.contracts.toolenv import CallStatus, Observation, ToolCall
from services.planner.budget import Budget
from services.planner.compaction import OldestFirst
from services.planner.policy import ContextOverflow, Policy, Sampling
from services.planner.service import PlannerService
from services.planner.turn import Turns
from tests.fakes.planner_ports import (
    HELLO,
    HELLO_NAME,
    FakeToolEnv,
    ScriptedModel,
    answer,
    document,
    end_of,
    events_of,
    number,
    reply,
)

pytestmark = pytest.mark.anyio

USER = Message(role="user", content="ask")


def policy(model: ScriptedModel, *, stream: bool = False) -> Policy:
    sampling = Sampling(max_tokens=7, temperature=0.5, seed=3, stream=stream, session="run")
    return Policy(model=model, tools=(), budget=Budget(Limits()), sampling=sampling)


async def test_the_request_carries_how_to_sample() -> None:
    model = ScriptedModel([answer("x")])
    await policy(model).ask((USER,))
    request = model.requests[0]
    assert (request.max_tokens, request.temperature, request.seed, request.session) == (
        7,
        0.5,
        3,
        "run",
    )


async def test_a_streamed_reply_is_told_piece_by_piece_and_returned_whole() -> None:
    model, told = ScriptedModel([answer("x", "one two")]), list[str]()

    async def on_text(text: str) -> None:
        told.append(text)

    completion = await policy(model, stream=True).ask((USER,), on_text=on_text)
    assert told == ["one", "two"]
    assert completion.message.content == "one two"


async def test_leaving_a_streamed_reply_closes_it() -> None:
    model = ScriptedModel([answer("x", "one two")])

    async def on_text(text: str) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await policy(model, stream=True).ask((USER,), on_text=on_text)
    assert model.closed_streams == 1


async def ignore(text: str) -> None:
    pass


async def test_a_stream_that_breaks_off_is_an_error() -> None:
    class Broken(ScriptedModel):
        async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionDelta]:
            yield CompletionDelta(text="half")

    with pytest.raises(Unavailable):
        await policy(Broken([]), stream=True).ask((USER,), on_text=ignore)


async def test_a_refused_first_step_is_the_callers_error() -> None:
    with pytest.raises(InvalidArgument):
        await policy(ScriptedModel([InvalidArgument("too long")])).ask((USER,))


async def test_a_refused_later_step_only_ends_its_branch() -> None:
    grown = (USER, Message(role="assistant", content="t"))
    with pytest.raises(ContextOverflow):
        await policy(ScriptedModel([InvalidArgument("too long")])).ask(grown)


def grown(n_steps: int) -> tuple[Message, ...]:
    """A conversation of that many steps with observations of a thousand characters."""
    messages = [USER]
    for index in range(n_steps):
        call = MessageToolCall(id=f"c{index}", name="f", arguments="{}")
        messages.append(Message(role="assistant", tool_calls=(call,)))
        content = f"{index:03}" + "x" * 1000
        messages.append(Message(role="tool", name="f", content=content, tool_call_id=call.id))
    return tuple(messages)


class Window(ScriptedModel):
    """A model server with a context; a token is four characters, and it says what was too much."""

    def __init__(self, context: int, *, words: str = "") -> None:
        super().__init__(self._say)
        self.context = context
        self.words = words

    async def complete(self, request: ChatRequest) -> Completion:
        completion = await super().complete(request)
        usage = Usage(prompt_tokens=self._prompt_tokens(request))
        return completion.model_copy(update={"usage": usage})

    @property
    def asked(self) -> int:
        return len(self.requests)

    def _prompt_tokens(self, request: ChatRequest) -> int:
        return sum(10 + len(message.content or "") for message in request.messages) // 4

    def _say(self, request: ChatRequest) -> Message:
        prompt = self._prompt_tokens(request)
        if prompt + request.max_tokens > self.context:
            raise InvalidArgument(
                self.words
                or f"maximum context length is {self.context} tokens. However, you requested "
                f"{prompt + request.max_tokens} tokens ({prompt} in the messages)"
            )
        return answer("ok")


def fitting(window: Window, turns: Turns, max_tokens: int = 200) -> Policy:
    sampling = Sampling(max_tokens=max_tokens)
    budget = Budget(Limits())
    return Policy(model=window, tools=(), budget=budget, sampling=sampling, turns=turns)


async def test_a_refused_turn_is_shortened_by_the_servers_numbers() -> None:
    window = Window(2000)
    turns = Turns(compaction=OldestFirst())
    await fitting(window, turns).ask(grown(12))
    assert (window.asked, turns.context_tokens) == (2, 2000)
    assert window.requests[-1].messages[0] == USER


async def test_what_was_learned_holds_for_later_turns() -> None:
    window = Window(2000)
    policy = fitting(window, Turns(compaction=OldestFirst()))
    await policy.ask(grown(12))
    await policy.ask(grown(14))
    assert window.asked == 3


async def test_a_refusal_without_numbers_is_tried_shorter() -> None:
    window = Window(2300, words="the prompt is too long")
    await fitting(window, Turns(compaction=OldestFirst())).ask(grown(10))
    assert 2 <= window.asked <= 3


async def test_after_two_shorter_tries_the_branch_ends() -> None:
    window = Window(10, words="the prompt is too long")
    with pytest.raises(ContextOverflow):
        await fitting(window, Turns(compaction=OldestFirst()), max_tokens=64).ask(grown(40))
    assert window.asked <= 3


async def test_without_a_compaction_the_first_refusal_ends_the_branch() -> None:
    window = Window(2000)
    with pytest.raises(ContextOverflow):
        await fitting(window, Turns()).ask(grown(12))
    assert window.asked == 1


async def test_with_a_known_context_nothing_is_refused() -> None:
    window = Window(2000)
    policy = fitting(window, Turns(context_tokens=2000, compaction=OldestFirst()))
    for n_steps in range(1, 20):
        await policy.ask(grown(n_steps))
    assert window.asked == 19


async def test_too_many_functions_for_the_first_step_name_what_to_lower() -> None:
    window = Window(50)
    first = Message(role="user", content="x" * 4000)
    with pytest.raises(InvalidArgument, match=r"model's context \(50\).*`top_k`"):
        await fitting(window, Turns(compaction=OldestFirst())).ask((first,))


async def test_the_budget_is_shown_last_and_only_when_asked() -> None:
    model = ScriptedModel(lambda _: answer("x"))
    budget = Budget(Limits(max_llm_calls=7))
    for shows in (False, True):
        policy = Policy(
            model=model, tools=(), budget=budget, sampling=Sampling(), shows_budget=shows
        )
        await policy.ask((USER,))
    assert model.requests[0].messages == (USER,)
    assert model.requests[1].messages[:-1] == (USER,)
    assert (model.requests[1].messages[-1].content or "").startswith("Left: 6 of 7 model calls")


async def test_a_call_that_fails_gives_its_place_back() -> None:
    budget = Budget(Limits(max_llm_calls=1))
    broken = ScriptedModel([Unavailable("gone")])
    policy = Policy(model=broken, tools=(), budget=budget, sampling=Sampling())
    budget.check()
    with pytest.raises(Unavailable):
        await policy.ask((USER,))
    assert budget.refusal() is None


@pytest.mark.parametrize("method", ["CoT@1", "DFS_woFilter_w2"])
@pytest.mark.parametrize("show_budget", [False, True])
async def test_a_request_begins_with_the_whole_request_before_it(
    method: str, show_budget: bool
) -> None:
    """Byte for byte, so that the server's prefix cache hits; only the last message may change."""
    numbers = iter(range(100))
    model = ScriptedModel(lambda _: reply((HELLO_NAME, f'{{"n": {next(numbers)}}}')))
    toolenv = FakeToolEnv([document(HELLO, required_parameters=(number("n"),))])
    request = SolveRequest(
        instruction="say hello",
        method=method,
        apis=(HELLO,),
        show_budget=show_budget,
        limits=Limits(max_depth=12, max_llm_calls=4),
    )
    await events_of(PlannerService(model=model, toolenv=toolenv, retriever=None), request)
    sent = [
        [message.model_dump_json() for message in request.messages] for request in model.requests
    ]
    for before, after in itertools.pairwise(sent):
        kept = before[:-1] if show_budget else before
        assert after[: len(kept)] == kept
        assert len(after) > len(kept)
    assert all(request.tools == model.requests[0].tools for request in model.requests)


@pytest.mark.parametrize(("no_compaction", "kind"), [(False, "answered"), (True, "exhausted")])
async def test_the_quirk_lets_a_conversation_that_is_too_long_end_its_branch(
    no_compaction: bool, kind: str
) -> None:
    class Talker(Window):
        def _say(self, request: ChatRequest) -> Message:
            super()._say(request)
            seen = sum("9999" in (message.content or "") for message in request.messages)
            n_asked = len(self.requests)
            return answer("done") if seen else reply((HELLO_NAME, f'{{"n": {n_asked}}}'))

    def long_answer(call: ToolCall) -> Observation:
        text = "x" * 1000 + ("9999" if len(toolenv.calls) == 8 else "")
        return Observation(status=CallStatus.OK, content=text, source="custom")

    toolenv = FakeToolEnv(
        [document(HELLO, required_parameters=(number("n"),))], answers=long_answer
    )
    request = SolveRequest(
        instruction="say hello",
        method="CoT@1",
        apis=(HELLO,),
        compat=Compat(no_compaction=no_compaction),
        limits=Limits(max_depth=40, max_observation_chars=2000),
    )
    planner = PlannerService(model=Talker(1700), toolenv=toolenv, retriever=None)
    assert end_of(await events_of(planner, request)).kind == kind

"""Asking the model, whole or piece by piece."""

from collections.abc import AsyncIterator

import pytest

from services.contracts.errors import InvalidArgument, Unavailable
from services.contracts.llm import ChatRequest, CompletionDelta, Message
from services.contracts.planner import Limits
from services.planner.budget import Budget
from services.planner.policy import ContextOverflow, Policy, Sampling
from tests.fakes.planner_ports import ScriptedModel, answer

pytestmark = pytest.mark.anyio

USER = Message(role="user", content="ask")


def policy(model: ScriptedModel, *, stream: bool = False) -> Policy:
    sampling = Sampling(max_tokens=7, temperature=0.5, seed=3, stream=stream, session="run")
    return Policy(model=model, tools=(), budget=Budget(Limits()), sampling=sampling)


async def test_the_request_carries_how_to_sample() -> None:
    model = ScriptedModel([answer("x")])
    (delta,) = [delta async for delta in policy(model).ask((USER,))]
    request = model.requests[0]
    assert delta.completion is not None
    assert (request.max_tokens, request.temperature, request.seed, request.session) == (
        7,
        0.5,
        3,
        "run",
    )


async def test_a_streamed_reply_comes_in_pieces_and_whole_at_the_end() -> None:
    model = ScriptedModel([answer("x", "one two")])
    deltas = [delta async for delta in policy(model, stream=True).ask((USER,))]
    assert [delta.text for delta in deltas] == ["one", "two", ""]
    assert [delta.completion is None for delta in deltas] == [True, True, False]


async def test_leaving_a_streamed_reply_closes_it() -> None:
    model = ScriptedModel([answer("x", "one two")])
    deltas = policy(model, stream=True).ask((USER,))
    await anext(deltas)
    await deltas.aclose()
    assert model.closed_streams == 1


async def test_a_stream_that_breaks_off_is_an_error() -> None:
    class Broken(ScriptedModel):
        async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionDelta]:
            yield CompletionDelta(text="half")

    with pytest.raises(Unavailable):
        [delta async for delta in policy(Broken([]), stream=True).ask((USER,))]


async def test_a_refused_first_step_is_the_callers_error() -> None:
    with pytest.raises(InvalidArgument):
        [d async for d in policy(ScriptedModel([InvalidArgument("too long")])).ask((USER,))]


async def test_a_refused_later_step_only_ends_its_branch() -> None:
    grown = (USER, Message(role="assistant", content="t"))
    with pytest.raises(ContextOverflow):
        [d async for d in policy(ScriptedModel([InvalidArgument("too long")])).ask(grown)]

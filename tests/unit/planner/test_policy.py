"""Asking the model, whole or piece by piece."""

import asyncio
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

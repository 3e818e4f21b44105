"""Who is asked, in which order, and how the answer is labelled."""

from collections.abc import Sequence

import pytest

from services.contracts.toolenv import CallSource, CallStatus, Observation
from services.toolenv.chain import Chain
from services.toolenv.executors.base import Declined
from services.toolenv.executors.custom import CustomExecutor
from services.toolenv.invocation import Invocation, prepare
from services.toolenv.observation import failed, succeeded
from services.toolenv.sandbox import SandboxOutcome
from tests.fakes.tool_sandbox import FakeSandbox, ended, make_entry

pytestmark = pytest.mark.anyio


class Scripted:
    """An executor that always gives the same answer and counts its calls."""

    def __init__(self, source: CallSource, answer: Observation | Declined) -> None:
        self.source: CallSource = source
        self.calls = 0
        self._answer = answer

    async def execute(self, invocation: Invocation) -> Observation | Declined:
        self.calls += 1
        return self._answer


class Notebook:
    """A recorder that keeps what it is given."""

    def __init__(self, *, is_full: bool = False) -> None:
        self.kept: list[Observation] = []
        self._is_full = is_full

    def wants(self, observation: Observation) -> bool:
        return observation.source == "live"

    async def record(self, invocation: Invocation, observation: Observation) -> bool:
        self.kept.append(observation)
        return not self._is_full


def answered(source: CallSource) -> Scripted:
    return Scripted(source, succeeded({"from": source}, source=source, latency_s=0.1))


def broken(source: CallSource, status: CallStatus = CallStatus.TIMEOUT) -> Scripted:
    return Scripted(source, failed(status, f"{source} broke"))


def declining(source: CallSource) -> Scripted:
    return Scripted(source, Declined(f"no {source} for this"))


async def run(
    *executors: Scripted, sources: Sequence[CallSource] | None = None, **options: object
) -> Observation:
    return await Chain(list(executors), **options).execute(prepare(make_entry(), "{}"), sources)


async def test_an_api_that_nobody_can_run_is_an_observation_with_every_reason() -> None:
    chain = Chain([CustomExecutor(FakeSandbox()), declining("live")])
    observation = await chain.execute(prepare(make_entry(source=None), "{}"))
    assert observation.status is CallStatus.API_NOT_WORKING
    assert "api.py is missing" in observation.content
    assert "no live for this" in observation.content


async def test_a_failed_call_is_not_handed_to_another_real_executor() -> None:
    second = answered("live")
    sandbox = FakeSandbox()
    sandbox.force = ended(SandboxOutcome.TIMEOUT, error="gone")
    observation = await Chain([CustomExecutor(sandbox), second]).execute(prepare(make_entry(), ""))
    assert observation.status is CallStatus.TIMEOUT
    assert (len(sandbox.calls), second.calls) == (1, 0)


async def test_the_first_that_does_not_decline_answers_and_the_others_are_named() -> None:
    observation = await run(declining("replay"), answered("live"), answered("custom"))
    assert observation.source == "live"
    assert [attempt.source for attempt in observation.attempts] == ["replay"]


async def test_a_simulation_steps_in_for_an_api_that_gave_no_answer_and_is_labelled_so() -> None:
    observation = await run(broken("live"), answered("custom"), answered("simulated"))
    assert observation.source == "simulated"
    assert [(a.source, a.status) for a in observation.attempts] == [("live", CallStatus.TIMEOUT)]


async def test_the_apis_own_error_is_its_answer_and_is_not_simulated_away() -> None:
    simulated = answered("simulated")
    observation = await run(broken("live", CallStatus.TOOL_ERROR), simulated)
    assert observation.status is CallStatus.TOOL_ERROR
    assert simulated.calls == 0


async def test_a_strict_mode_asks_nobody_else() -> None:
    live = answered("live")
    observation = await run(declining("replay"), live, sources=["replay"])
    assert observation.status is CallStatus.API_NOT_WORKING
    assert live.calls == 0


async def test_a_source_that_the_service_has_not_opened_is_named() -> None:
    observation = await run(answered("custom"), sources=["simulated"])
    assert "simulated: this service has it switched off" in observation.content


async def test_an_answer_says_whether_it_is_safely_recorded() -> None:
    notebook, full = Notebook(), Notebook(is_full=True)
    assert (await run(answered("live"), recorder=notebook)).is_recorded is True
    assert (await run(answered("live"), recorder=full)).is_recorded is False
    assert (await run(answered("simulated"), recorder=notebook)).is_recorded is None
    assert len(notebook.kept) == 1


async def test_two_spellings_of_a_call_have_one_key() -> None:
    chain = Chain([answered("live")])
    texts = ['{"text": "x", "times": 1}', '{"times": 1e0, "text": "x"}']
    keys = [(await chain.execute(prepare(make_entry(), text))).key for text in texts]
    assert keys[0] is not None
    assert keys[0] == keys[1]


async def test_a_chain_of_nothing_or_with_a_source_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Chain([])
    with pytest.raises(ValueError, match="at most one per source"):
        Chain([answered("live"), answered("live")])


async def test_a_failure_that_nobody_stands_in_for_is_returned_with_who_was_tried() -> None:
    observation = await run(declining("replay"), broken("live"), declining("simulated"))
    assert (observation.status, observation.source) == (CallStatus.TIMEOUT, "error")
    assert observation.tried == "live"
    assert [attempt.source for attempt in observation.attempts] == ["replay"]

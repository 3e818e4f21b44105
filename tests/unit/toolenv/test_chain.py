"""The choice of an executor is made before the call, never after a failure."""

import pytest

from services.contracts.toolenv import CallStatus
from services.toolenv.chain import Chain
from services.toolenv.executors.custom import CustomExecutor
from services.toolenv.sandbox import SandboxOutcome
from tests.fakes.tool_sandbox import FakeSandbox, ended, make_entry

pytestmark = pytest.mark.anyio


async def test_an_api_that_nobody_can_run_is_an_observation_with_every_reason() -> None:
    chain = Chain([CustomExecutor(FakeSandbox()), CustomExecutor(FakeSandbox())])
    observation = await chain.execute(make_entry(source=None), "{}")
    assert observation.status is CallStatus.API_NOT_WORKING
    assert observation.content.count("api.py is missing") == 2


async def test_a_failed_call_is_not_handed_to_the_next_executor() -> None:
    first, second = FakeSandbox(), FakeSandbox()
    first.force = ended(SandboxOutcome.CRASHED, error="gone")
    observation = await Chain([CustomExecutor(first), CustomExecutor(second)]).execute(
        make_entry(), ""
    )
    assert observation.status is CallStatus.RESOURCE_LIMIT
    assert (len(first.calls), len(second.calls)) == (1, 0)


async def test_a_chain_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Chain([])

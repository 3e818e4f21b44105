"""Carrying out actions: what the model sees, and how it is classified."""

import json

import pytest

from services.contracts.compat import NONE, TOOLBENCH, Compat
from services.contracts.errors import Unavailable
from services.contracts.planner import Limits
from services.contracts.toolenv import MAX_ARGUMENTS_CHARS, CallStatus, Observation
from services.planner.action_space import build_action_space
from services.planner.actions import ActionRunner
from services.planner.budget import Budget, BudgetSpent
from tests.fakes.planner_ports import HELLO, HELLO_NAME, FakeToolEnv, document

pytestmark = pytest.mark.anyio


def runner(toolenv: FakeToolEnv, compat: Compat = NONE, **limits: int) -> ActionRunner:
    return ActionRunner(
        space=build_action_space([document()], compat=compat),
        toolenv=toolenv,
        budget=Budget(Limits(**limits)),
        compat=compat,
    )


def answering(status: CallStatus, error: str) -> FakeToolEnv:
    content = json.dumps({"error": error, "response": ""})
    return FakeToolEnv(
        answers=lambda _: Observation(status=status, content=content, source="remote")
    )


async def test_the_models_text_reaches_the_tool_verbatim() -> None:
    toolenv = FakeToolEnv()
    outcome = await runner(toolenv).run(HELLO_NAME, '{"q": "unterminated')
    assert toolenv.calls[0].arguments_text == '{"q": "unterminated'
    assert toolenv.calls[0].api == HELLO
    assert (outcome.status, outcome.source, outcome.latency_s) == (CallStatus.OK, "custom", 0.5)


def saying(content: str) -> FakeToolEnv:
    return FakeToolEnv(
        answers=lambda _: Observation(status=CallStatus.OK, content=content, source="remote")
    )


async def test_a_long_observation_keeps_its_head_and_its_tail() -> None:
    toolenv = saying("h" * 100 + "-" * 500 + "t" * 100)
    outcome = await runner(toolenv, max_observation_chars=40).run(HELLO_NAME, "{}")
    assert outcome.observation == "h" * 30 + " [... 660 characters left out ...] " + "t" * 10


async def test_a_long_observation_loses_its_end_with_the_quirk() -> None:
    toolenv = saying("0123456789abcdef")
    compat = Compat(cut_observations_at_end=True)
    outcome = await runner(toolenv, compat, max_observation_chars=10).run(HELLO_NAME, "{}")
    assert outcome.observation == "0123456789" + "..."


async def test_the_limit_of_tool_calls_is_checked_before_the_tool_is_asked() -> None:
    toolenv = FakeToolEnv()
    limited = runner(toolenv, max_tool_calls=1)
    await limited.run(HELLO_NAME, "{}")
    with pytest.raises(BudgetSpent, match="max_tool_calls=1"):
        await limited.run(HELLO_NAME, '{"q": "another"}')
    assert len(toolenv.calls) == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("Unsubscribed error...", CallStatus.UNSUBSCRIBED),
        ("Tool input parse error...\n", CallStatus.OK),
        ("no such city", CallStatus.OK),
    ],
)
async def test_toolbench_mode_reads_the_status_from_the_error_text(
    error: str, status: CallStatus
) -> None:
    toolenv = answering(CallStatus.TOOL_ERROR, error)
    assert (await runner(toolenv, TOOLBENCH).run(HELLO_NAME, "{}")).status is status


async def test_otherwise_the_environments_own_status_counts() -> None:
    toolenv = answering(CallStatus.TOOL_ERROR, "no such city")
    assert (await runner(toolenv).run(HELLO_NAME, "{}")).status is CallStatus.TOOL_ERROR


async def test_a_failed_request_stays_one_in_toolbench_mode() -> None:
    toolenv = answering(CallStatus.REQUEST_FAILED, "request invalid, data error")
    outcome = await runner(toolenv, TOOLBENCH).run(HELLO_NAME, "{}")
    assert outcome.status is CallStatus.REQUEST_FAILED


async def test_an_unknown_function_reaches_no_tool() -> None:
    toolenv = FakeToolEnv()
    outcome = await runner(toolenv).run("nope", "{}")
    assert (outcome.status, toolenv.calls) == (CallStatus.UNKNOWN_FUNCTION, [])


async def test_endless_arguments_are_refused_before_the_tool_is_asked() -> None:
    toolenv = FakeToolEnv()
    outcome = await runner(toolenv).run(HELLO_NAME, "x" * (MAX_ARGUMENTS_CHARS + 1))
    assert (outcome.status, toolenv.calls) == (CallStatus.INVALID_ARGUMENTS, [])
    assert str(MAX_ARGUMENTS_CHARS) in outcome.observation


async def test_an_environment_that_cannot_work_is_an_error() -> None:
    with pytest.raises(Unavailable):
        await runner(FakeToolEnv(error=Unavailable("down"))).run(HELLO_NAME, "{}")

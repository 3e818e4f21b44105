"""The custom executor with a sandbox that has no walls but keeps count."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.context import deadline_in
from services.contracts.errors import DeadlineExceeded, Unavailable
from services.contracts.toolenv import CallStatus
from services.toolenv.catalog import CatalogueEntry
from services.toolenv.egress.policy import EgressPolicy
from services.toolenv.executors import custom
from services.toolenv.executors.base import Declined
from services.toolenv.executors.custom import CustomExecutor
from services.toolenv.invocation import parse_arguments, prepare
from services.toolenv.sandbox import SandboxOutcome
from tests.fakes.tool_sandbox import FakeSandbox, ended, make_entry

pytestmark = pytest.mark.anyio


async def test_a_result_is_printed_as_error_and_response(
    sandbox: FakeSandbox, entry: CatalogueEntry
) -> None:
    observation = await CustomExecutor(sandbox).execute(prepare(entry, '{"text": "é", "times": 2}'))
    assert observation.content == '{"error": "", "response": "\\u00e9\\u00e9"}'
    assert (observation.status, observation.source) == (CallStatus.OK, "custom")
    assert observation.latency_s == 0.25


async def test_empty_arguments_are_the_empty_object(sandbox: FakeSandbox) -> None:
    entry = make_entry(source="def echo_text(text='none'):\n    return text\n")
    observation = await CustomExecutor(sandbox).execute(prepare(entry, " \n"))
    assert sandbox.calls[0][:2] == ("echo_text", {})
    assert json.loads(observation.content)["response"] == "none"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "line 1 column 2"),
        ('{"text": "a" "times": 1}', "delimiter"),
        ("[]", "not a list"),
        ('"x"', "not a str"),
        ("3", "not a int"),
        ("null", "not a NoneType"),
        ('{"text": NaN}', "NaN is not a JSON value"),
        ('{"text": 1e999}', "not JSON"),
        ('{"text": "\\ud800"}', "not JSON"),
        ('{"text": ' + "9" * 5000 + "}", "not JSON"),
        ("[" * 60_000, "nested too deeply"),
    ],
)
async def test_broken_arguments_never_reach_the_sandbox_and_the_problem_is_named(
    sandbox: FakeSandbox, entry: CatalogueEntry, text: str, named: str
) -> None:
    observation = await CustomExecutor(sandbox).execute(prepare(entry, text))
    assert observation.status is CallStatus.INVALID_ARGUMENTS
    assert named in json.loads(observation.content)["error"]
    assert sandbox.calls == []


@given(st.text())
def test_any_text_gives_an_object_or_a_named_problem(text: str) -> None:
    try:
        arguments: Any = parse_arguments(text)
    except ValueError as exc:
        arguments = {"problem": str(exc)}
    assert isinstance(arguments, dict)


async def test_an_unknown_parameter_is_refused_and_lists_the_accepted_names(
    sandbox: FakeSandbox, entry: CatalogueEntry
) -> None:
    observation = await CustomExecutor(sandbox).execute(prepare(entry, '{"txt": "a", "text": "b"}'))
    assert observation.status is CallStatus.INVALID_ARGUMENTS
    error = json.loads(observation.content)["error"]
    assert "'txt'" in error
    assert "accepts text, times" in error


async def test_a_tools_exception_is_its_error(sandbox: FakeSandbox) -> None:
    entry = make_entry(source="def echo_text(text):\n    raise ValueError('no ' + text)\n")
    observation = await CustomExecutor(sandbox).execute(prepare(entry, '{"text": "x"}'))
    assert observation.content == '{"error": "ValueError: no x", "response": ""}'
    assert observation.status is CallStatus.TOOL_ERROR


@pytest.mark.parametrize(
    ("outcome", "status", "text"),
    [
        (SandboxOutcome.TIMEOUT, CallStatus.TIMEOUT, "did not answer within 30 s"),
        (SandboxOutcome.OUTPUT_LIMIT, CallStatus.OUTPUT_LIMIT, "Output limit: why"),
        (SandboxOutcome.CPU_LIMIT, CallStatus.RESOURCE_LIMIT, "Processor limit: why"),
        (SandboxOutcome.MEMORY_LIMIT, CallStatus.RESOURCE_LIMIT, "Memory limit: why"),
        (SandboxOutcome.CRASHED, CallStatus.RESOURCE_LIMIT, "The tool crashed: why"),
        (SandboxOutcome.VIOLATION, CallStatus.SANDBOX_VIOLATION, "Refused by the sandbox: why"),
        (SandboxOutcome.PROTOCOL_ERROR, CallStatus.REQUEST_FAILED, "protocol: why"),
        (SandboxOutcome.UNKNOWN_FUNCTION, CallStatus.API_NOT_WORKING, "API not working: why"),
        (SandboxOutcome.BAD_ARGUMENTS, CallStatus.INVALID_ARGUMENTS, "why; it accepts text, times"),
    ],
)
async def test_every_end_of_a_call_has_its_status_and_says_why(
    sandbox: FakeSandbox,
    entry: CatalogueEntry,
    outcome: SandboxOutcome,
    status: CallStatus,
    text: str,
) -> None:
    sandbox.force = ended(outcome, error="why")
    observation = await CustomExecutor(sandbox).execute(prepare(entry, ""))
    assert observation.status is status
    assert text in json.loads(observation.content)["error"]


async def test_the_status_table_covers_every_outcome() -> None:
    answered_elsewhere = {SandboxOutcome.OK, SandboxOutcome.UNAVAILABLE}
    assert set(custom._MEANINGS) == set(SandboxOutcome) - answered_elsewhere


async def test_what_was_printed_before_the_output_limit_is_kept(
    sandbox: FakeSandbox, entry: CatalogueEntry
) -> None:
    sandbox.force = ended(SandboxOutcome.OUTPUT_LIMIT, error="too much", stdout="a" * 65_536)
    observation = await CustomExecutor(sandbox).execute(prepare(entry, ""))
    assert json.loads(observation.content)["response"] == "a" * 65_536


async def test_a_sandbox_that_cannot_run_calls_is_unavailable(
    sandbox: FakeSandbox, entry: CatalogueEntry
) -> None:
    sandbox.force = ended(SandboxOutcome.UNAVAILABLE, error="zygote died")
    with pytest.raises(Unavailable, match="zygote died"):
        await CustomExecutor(sandbox).execute(prepare(entry, ""))


async def test_a_sandbox_that_hangs_is_unavailable_after_its_grace(
    sandbox: FakeSandbox, entry: CatalogueEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(custom, "_SANDBOX_GRACE_S", 0.05)
    sandbox.hang = True
    with pytest.raises(Unavailable, match="did not end a call"):
        await CustomExecutor(sandbox, call_timeout_s=0.05).execute(prepare(entry, ""))


async def test_the_sandbox_gets_the_smaller_of_call_limit_and_deadline(
    sandbox: FakeSandbox, entry: CatalogueEntry
) -> None:
    executor = CustomExecutor(sandbox, call_timeout_s=30)
    await executor.execute(prepare(entry, '{"text": ""}'))
    with deadline_in(2):
        await executor.execute(prepare(entry, '{"text": ""}'))
    assert sandbox.calls[0][2] == 30
    assert 0 < sandbox.calls[1][2] <= 2


async def test_a_passed_deadline_starts_nothing(
    sandbox: FakeSandbox, entry: CatalogueEntry
) -> None:
    with deadline_in(-1), pytest.raises(DeadlineExceeded):
        await CustomExecutor(sandbox).execute(prepare(entry, ""))
    assert sandbox.calls == []


async def test_an_api_without_code_is_declined_with_the_missing_file(sandbox: FakeSandbox) -> None:
    answer = await CustomExecutor(sandbox).execute(prepare(make_entry(source=None), "{}"))
    assert isinstance(answer, Declined)
    assert "api.py is missing" in answer.reason


async def test_a_result_longer_than_one_megabyte_when_printed_is_refused(
    sandbox: FakeSandbox, entry: CatalogueEntry
) -> None:
    sandbox.force = ended(SandboxOutcome.OK, value="é" * 300_000)
    observation = await CustomExecutor(sandbox).execute(prepare(entry, ""))
    assert observation.status is CallStatus.OUTPUT_LIMIT
    assert "1048576 bytes" in observation.content


async def test_a_result_that_json_cannot_hold_is_the_tools_error(
    sandbox: FakeSandbox, entry: CatalogueEntry
) -> None:
    sandbox.force = ended(SandboxOutcome.OK, value=[float("nan")])
    observation = await CustomExecutor(sandbox).execute(prepare(entry, ""))
    assert observation.status is CallStatus.TOOL_ERROR


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("ReadTimeout: HTTPSConnectionPool(host='api.test'): Read timed out.", CallStatus.TIMEOUT),
        ("EgressTimeout: there was no answer within 2 s", CallStatus.TIMEOUT),
        ("ConnectionError: ('Connection aborted.', EgressError('x'))", CallStatus.REQUEST_FAILED),
        ("URLError: <urlopen error the egress broker ended>", CallStatus.REQUEST_FAILED),
        ("ConnectError: egress refused: 'x.test' is private", CallStatus.API_NOT_WORKING),
        ("HTTPError: 503 Server Error: X for url: https://x.test", CallStatus.API_NOT_WORKING),
        ("HTTPStatusError: Client error '429 X' for url 'https://x'", CallStatus.TOO_MANY_REQUESTS),
        ("HTTPError: HTTP Error 404: Not Found", CallStatus.TOOL_ERROR),
        ("HTTPError: nobody knows", CallStatus.TOOL_ERROR),
        ("ValueError: ReadTimeout: not the library's", CallStatus.TOOL_ERROR),
        ("KeyError: 'price 500'", CallStatus.TOOL_ERROR),
    ],
)
async def test_a_network_s_failure_that_code_lets_pass_is_no_answer_of_the_api(
    sandbox: FakeSandbox, entry: CatalogueEntry, error: str, status: CallStatus
) -> None:
    sandbox.force = ended(SandboxOutcome.TOOL_ERROR, error=error)
    executor = CustomExecutor(sandbox, egress_of=lambda _entry, _user: EgressPolicy("x", ()))
    observation = await executor.execute(prepare(entry, ""))
    assert observation.status is status
    assert error in json.loads(observation.content)["error"]


async def test_code_without_a_network_raises_errors_of_its_own_only(
    sandbox: FakeSandbox, entry: CatalogueEntry
) -> None:
    sandbox.force = ended(SandboxOutcome.TOOL_ERROR, error="TimeoutError: the market is closed")
    observation = await CustomExecutor(sandbox).execute(prepare(entry, ""))
    assert observation.status is CallStatus.TOOL_ERROR

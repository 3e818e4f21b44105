"""Statuses and ToolBench's numbers."""

import pytest

from services.contracts.toolbench.codes import code_of, status_of, status_of_error_text
from services.contracts.toolenv import CallStatus


def test_every_status_has_a_number() -> None:
    assert {code_of(status) for status in CallStatus} == {-1, *range(13)}


def test_seven_is_unauthorized_and_eight_unsubscribed_as_the_references_code_writes_them() -> None:
    assert code_of(CallStatus.UNAUTHORIZED) == 7
    assert code_of(CallStatus.UNSUBSCRIBED) == 8


@pytest.mark.parametrize(
    "status",
    [CallStatus.SANDBOX_VIOLATION, CallStatus.OUTPUT_LIMIT, CallStatus.RESOURCE_LIMIT],
)
def test_our_own_failures_are_written_as_failed_requests(status: CallStatus) -> None:
    assert code_of(status) == 12
    assert status_of(12) is CallStatus.REQUEST_FAILED


@pytest.mark.parametrize("code", [-1, *range(13)])
def test_a_number_survives_the_way_through_its_status(code: int) -> None:
    assert code_of(status_of(code)) == code


def test_a_number_outside_the_table_is_named() -> None:
    with pytest.raises(ValueError, match="13"):
        status_of(13)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("API not working error...", 6),
        ("Unauthorized error...", 7),
        ("Unsubscribed error...", 8),
        ("Too many requests error...", 9),
        ("Rate limit per minute error...", 10),
        ("Message error...", 11),
        ("Timeout error...", 5),
        ("", 0),
        ("Rate limit error...", 0),
        ("Blocked error...", 0),
        ("Tool input parse error...\n", 0),
        ("api not working error...", 0),
    ],
)
def test_error_texts_are_compared_exactly(error: str, code: int) -> None:
    assert code_of(status_of_error_text(error)) == code

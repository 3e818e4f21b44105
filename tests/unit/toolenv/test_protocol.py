"""ToolBench's payload, names and error texts."""

import pytest

from services.contracts.apis import ApiRef
from services.contracts.toolbench.codes import STATUS_OF_ERROR_TEXT
from services.contracts.toolenv import CallStatus
from services.toolenv.protocol import (
    classify_as_reference,
    error_of_status,
    is_chat,
    is_known_error,
    names_of_api,
    status_of_error,
)

REF = ApiRef.parse("News_Media/the_tool/get_it")


@pytest.mark.parametrize(("text", "status"), [*STATUS_OF_ERROR_TEXT.items()])
def test_each_status_with_a_text_is_derived_from_it_again(text: str, status: CallStatus) -> None:
    assert error_of_status(status, ref=REF, detail="d", in_code=False) == text
    assert is_known_error(text, status)


@pytest.mark.parametrize("status", [CallStatus.REQUEST_FAILED, CallStatus.BLOCKED])
def test_texts_that_only_our_client_reads_are_read_back(status: CallStatus) -> None:
    text = error_of_status(status, ref=REF, detail="d", in_code=False)
    assert status_of_error(text, as_reference=False) is status
    assert status_of_error(text, as_reference=True) is CallStatus.OK


def test_a_failing_function_is_told_with_its_import() -> None:
    error = error_of_status(CallStatus.TOOL_ERROR, ref=REF, detail="KeyError: 1", in_code=True)
    assert error == (
        "Function executing from data.toolenv.tools.News_Media.the_tool.api import get_it error..."
        "\nKeyError: 1"
    )


def test_an_outcome_that_the_protocol_lacks_has_no_text() -> None:
    assert error_of_status(CallStatus.OUTPUT_LIMIT, ref=REF, detail="d", in_code=True) is None


@pytest.mark.parametrize(
    ("tool", "api", "expected"),
    [
        ("the_tool", "get_it", ("the_tool", "get_it")),
        ("the_tool_for_News_Media", "get_it", ("the_tool", "get_it")),
        ("the_tool", "get_it_for_the_tool", ("the_tool", "get_it")),
        ("The Tool", "Get It_for_The Tool", ("The Tool", "get_it")),
        ("the_tool_for_News_Media", "get_it_for_the_tool", ("the_tool", "get_it")),
    ],
)
def test_suffixes_of_the_reference_are_cut(tool: str, api: str, expected: tuple[str, str]) -> None:
    *_, last = names_of_api("News, Media", tool, api)
    assert (last.tool, last.api) == expected


def test_names_as_they_stand_are_tried_first() -> None:
    first, *_ = names_of_api("C", "a_for_C", "b_for_a")
    assert first == ("C", "a_for_C", "b_for_a")


@pytest.mark.parametrize("name", ["chat_with_user", "Chat With User", "chat_with_user_for_x"])
def test_the_chat_is_known_by_any_spelling(name: str) -> None:
    assert is_chat(name)
    assert not is_chat("chat_with_users")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Your Client (working) ---> Gateway (working) ---> API (not working)", "API not working"),
        ("401 unauthorized error", "Unauthorized"),
        ("You are not subscribed to this API.", "Unsubscribed"),
        ("Too many requests, error", "Too many requests"),
        ("You have exceeded the quota", "Rate limit"),
        ("Oops, an error in the gateway has occurred.", "Gateway"),
        ("Blocked User. Please contact your API provider.", "Blocked"),
        ("{'errors': 0}", "Message"),
    ],
)
def test_values_are_classed_as_the_reference_does(text: str, error: str) -> None:
    assert classify_as_reference(text) == f"{error} error..."
    assert classify_as_reference("{'price': 1500}") == ""

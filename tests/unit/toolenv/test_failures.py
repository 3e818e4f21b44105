"""What answers mean, over bodies as RapidAPI's gateway and real APIs send them."""

import ast
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.toolenv import CallStatus
from services.toolenv.failures import classify, is_html
from services.toolenv.protocol import classify_as_reference

OK = CallStatus.OK
UNSUBSCRIBED = CallStatus.UNSUBSCRIBED
UNAUTHORIZED = CallStatus.UNAUTHORIZED
BLOCKED = CallStatus.BLOCKED
RATE = CallStatus.RATE_LIMITED
BUSY = CallStatus.TOO_MANY_REQUESTS
DOWN = CallStatus.API_NOT_WORKING
TIMEOUT = CallStatus.TIMEOUT
TOOL = CallStatus.TOOL_ERROR
BROKEN = CallStatus.REQUEST_FAILED

HTML_403 = (
    "<html><head><title>Forbidden</title></head><body><h1>Forbidden</h1>Access is denied."
    "</body></html>"
)
GATEWAY_DOWN = (
    "Your Client (working) ---> Gateway (working) ---> API (not working). Please contact the API "
    "provider to investigate."
)
QUOTA = (
    "You have exceeded the MONTHLY quota for Requests on your current plan, BASIC. Upgrade your "
    "plan at https://rapidapi.com/x/api/y"
)
NO_CREDITS = "Access restricted. Check credits balance or enter the correct API key."
SPENT = {"type": "usage_limit_reached", "message": "Your monthly usage limit has been reached."}
DENIED = {"status": "REQUEST_DENIED", "error_message": "The provided API key is invalid."}
PER_SECOND = "You have exceeded the rate limit per second for your plan, BASIC, by the API provider"

FAILURES: list[tuple[int, Any, CallStatus]] = [
    # RapidAPI's gateway, with the status it uses and with the 200 that some proxies make of it
    (403, {"message": "You are not subscribed to this API."}, UNSUBSCRIBED),
    (200, {"message": "You are not subscribed to this API."}, UNSUBSCRIBED),
    (200, {"message": "This endpoint is disabled for your subscription"}, UNSUBSCRIBED),
    (200, {"messages": "x", "message": "You are not subscribed to this API."}, UNSUBSCRIBED),
    (429, {"message": "Too many requests"}, BUSY),
    (200, {"message": "Too many requests"}, BUSY),
    (429, {}, BUSY),
    (429, {"message": QUOTA}, RATE),
    (200, {"message": QUOTA}, RATE),
    (429, {"message": PER_SECOND}, RATE),
    (200, {"info": "", "message": "You have exceeded the DAILY quota for requests"}, RATE),
    (401, {"message": "Invalid API key. Go to https://docs.rapidapi.com/docs/keys"}, UNAUTHORIZED),
    (200, {"message": "Invalid API key. Go to https://docs.rapidapi.com/docs/keys"}, UNAUTHORIZED),
    (401, {"message": "Missing RapidAPI application key."}, UNAUTHORIZED),
    (403, {"message": "Blocked User. Please contact your API provider."}, BLOCKED),
    (200, {"message": "Blocked User. Please contact your API provider."}, BLOCKED),
    (404, {"message": "API doesn't exists"}, DOWN),
    (200, {"message": "API doesn't exists"}, DOWN),
    (404, {"message": "Endpoint '/search/people' does not exist"}, DOWN),
    (200, {"message": "Endpoint '/search/people' does not exist"}, DOWN),
    (200, {"messages": GATEWAY_DOWN, "message": GATEWAY_DOWN}, DOWN),
    (503, GATEWAY_DOWN, DOWN),
    (200, GATEWAY_DOWN, DOWN),
    (200, {"message": "Oops, an error in the gateway has occurred."}, DOWN),
    (200, NO_CREDITS, RATE),
    (403, {"message": NO_CREDITS}, RATE),
    (504, {"messages": "The request to the API has timed out."}, TIMEOUT),
    # plain HTTP
    (400, {"title": "Bad Request", "status": 400, "traceId": "|b1da"}, TOOL),
    (401, "", UNAUTHORIZED),
    (402, {"error": "Payment Required"}, UNSUBSCRIBED),
    (403, HTML_403, UNAUTHORIZED),
    (404, {"message": "Not Found"}, TOOL),
    (404, "<html><title>404 Not Found</title></html>", TOOL),
    (405, "", DOWN),
    (408, "", TIMEOUT),
    (410, "", DOWN),
    (422, {"detail": [{"loc": ["query", "q"], "msg": "field required"}]}, TOOL),
    (451, "", BLOCKED),
    (500, {"error": "Internal Server Error"}, DOWN),
    (502, "<html><title>502 Bad Gateway</title></html>", DOWN),
    (301, "", BROKEN),
    # failures with status 200
    (200, HTML_403, UNAUTHORIZED),
    (200, f'"{HTML_403}"', UNAUTHORIZED),
    (200, "<!DOCTYPE html><html><head><title>Just a moment...</title></head></html>", UNAUTHORIZED),
    (200, "<html><head><title>Sign in - Portal</title></head></html>", UNAUTHORIZED),
    (200, "<html><head><title>502 Bad Gateway</title></head></html>", DOWN),
    (200, "<HTML><HEAD><TITLE>Error 404 (Not Found)!!1</TITLE></HEAD></HTML>", DOWN),
    (200, "<html><title>Application Error</title></html>", DOWN),
    (200, "Forbidden", UNAUTHORIZED),
    (200, "Unauthorized", UNAUTHORIZED),
    (200, "An API key is required to access this data and no key was provided", UNAUTHORIZED),
    (200, {"status": "401", "msg": "Authentication required"}, UNAUTHORIZED),
    (200, {"error": {"code": 401, "message": "Request had invalid credentials"}}, UNAUTHORIZED),
    (200, {"cod": 401, "message": "Invalid API key. See https://x/faq#401"}, UNAUTHORIZED),
    (200, {"error": "invalid_token"}, UNAUTHORIZED),
    (200, DENIED, UNAUTHORIZED),
    (200, {"error": SPENT}, RATE),
    (200, {"cod": "404", "message": "city not found"}, TOOL),
    (200, {"Response": "False", "Error": "Movie not found!"}, TOOL),
    (200, {"success": False, "message": "Tracking information not found"}, TOOL),
    (200, {"success": "false", "error": "bad id"}, TOOL),
    (200, {"success": False, "data": []}, TOOL),
    (200, {"ok": False, "error": "not_authed"}, TOOL),
    (200, {"status": "error", "message": "No results", "data": None}, TOOL),
    (200, {"status": 400, "message": "Não foi possível", "errors": [{"error": "soap"}]}, TOOL),
    (200, {"statusCode": 400, "error": "Bad Request", "message": "Invalid request input"}, TOOL),
    (200, {"error": True, "reason": "Latitude must be in range"}, TOOL),
    (200, {"error": "City not found", "city": "Xyzzy"}, TOOL),
    (200, {"errors": [{"message": "Field is required"}], "data": None}, TOOL),
    (200, [{"error": "no such id"}], TOOL),
    (200, {"message": "genre must be an integer: Comedy"}, TOOL),
    (200, {"message": "unknown service prime_video"}, TOOL),
    (200, {"message": "amount of values in services parameter exceeds the limit of 4"}, TOOL),
    (200, {"message": "Internal Server Error"}, DOWN),
    (200, {"message": "Endpoint request timed out"}, TIMEOUT),
    (200, {"meta": {"code": 403, "message": "Forbidden"}, "data": []}, UNAUTHORIZED),
]  # fmt: skip

VALUES: list[Any] = [
    {"price": 1500, "currency": "USD"},
    {"prices": [404, 500, 401, 403, 429, 504]},
    {"flight": "UA404", "gate": "500"},
    {"title": "An unauthorized biography", "error": None},
    {"books": [{"title": "Unauthorized", "message": "You are not subscribed to this API."}]},
    "The unauthorized biography of a rate limiter that nobody blocked",
    "No man is an island.",
    "404",
    {"error": None, "value": 1},
    {"error": "", "value": 1},
    {"error": False, "value": 1},
    {"errors": [], "data": {"a": 1}},
    {"errors": {}, "items": [1]},
    {"error": 0, "result": "x"},
    {"error": "none", "result": "x"},
    {"error": {"code": 0, "message": "success"}, "result": {"a": 1}},
    {"error_rate": 0.1},
    {"estimate": 3.2, "error": 0.1},
    {"errors": 3, "requests": 100},
    {"data": {"viewer": {"id": 1}}, "errors": [{"message": "field deprecated"}]},
    {"status": 200, "message": "OK", "data": []},
    {"status": "ok", "totalResults": 0, "articles": []},
    {"status": "failed", "job_id": 12},
    {"status": 500, "price": 3},
    {"code": 404, "name": "Not Found", "meaning": "the page does not exist"},
    {"code": "500", "meaning": "Internal Server Error"},
    {"message": "Hello world"},
    {"message": "Success"},
    {"meta": {"code": 200, "type": "Success", "message": "Success"}, "data": []},
    {"name": "Falcon 1", "success": False, "flight_number": 1},
    {"response": False},
    {"is_valid": False, "email": "x"},
    {"result": [], "hasMore": False, "nextCursor": ""},
    {"quote": "You have exceeded the speed limit", "author": "A. Trooper"},
    {"results": [{"title": "Terror", "overview": "an error of judgement"}]},
    {"horror": ["Error 404: Love Not Found"]},
    [],
    [{"error": None}],
    [{"id": 1, "error": "x"}, {"id": 2}],
    {},
    "",
    None,
    True,
    1500,
    404,
    "<html><body><h1>Weather in Rome</h1></body></html>",
    "x" * 5000 + "Forbidden",
]


@pytest.mark.parametrize(("http_status", "body", "expected"), FAILURES)
def test_a_failure_is_told_by_status_structure_and_whole_phrases(
    http_status: int, body: Any, expected: CallStatus
) -> None:
    assert classify(http_status, body).status is expected


@pytest.mark.parametrize("body", VALUES)
def test_a_value_is_no_failure_whatever_words_and_digits_it_holds(body: Any) -> None:
    assert classify(200, body).status is OK


def test_a_web_page_is_no_answer_of_an_api_that_returns_objects() -> None:
    page = "<!doctype html><html><title>Welcome</title></html>"
    assert classify(200, page).status is OK
    assert classify(200, page, expects_object=True).status is BROKEN


def test_the_verdict_keeps_the_apis_words_bounded() -> None:
    verdict = classify(200, {"success": False, "message": "no  such\ncity " * 900})
    assert verdict.message.startswith("no such city no such")
    assert len(verdict.message) == 500


def test_depth_is_no_problem() -> None:
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    for body in (deep, {"error": deep}, {"message": deep}, {"errors": [{"message": deep}]}):
        assert classify(200, body).status in CallStatus


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=12,
)


@given(_JSON, st.integers(100, 599))
def test_every_answer_has_a_verdict(body: Any, http_status: int) -> None:
    verdict = classify(http_status, body)
    assert (verdict.status is OK) <= (http_status < 300)


@pytest.mark.parametrize("text", ["exceeded the " + "a " * 200, "a" * 400, "no " * 130, "(" * 399])
def test_no_text_makes_the_phrases_slow(text: str) -> None:
    for body in (text, {"message": text}, {"error": text}):
        assert classify(200, body).status in CallStatus


def _recorded(folder: Path) -> Iterator[tuple[int, str]]:
    """Code and whole observation of every real call in the published answers."""
    for file in sorted(folder.glob("*/*.json")):
        level = [json.loads(file.read_text(encoding="utf-8"))["tree"]["tree"]]
        while level:
            node = level.pop()
            level += node.get("children") or []
            if node.get("node_type") == "Action Input" and node.get("observation"):
                yield node["observation_code"], node["observation"]


def _value(printed: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(printed)
        except (ValueError, SyntaxError):
            continue
    return printed


def test_the_published_answers_hold_failures_that_the_reference_took_for_successes(
    shared_data: Path,
) -> None:
    ours: Counter[CallStatus] = Counter()
    for code, observation in _recorded(shared_data / "toolbench_answers"):
        text = observation if code == 0 and observation.endswith("}") else "{}"
        reply = json.loads(text)
        if reply.get("error") == "":
            value = _value(reply["response"])
            assert classify_as_reference(str(value)) == ""
            ours[classify(200, value).status] += 1
    assert ours == {OK: 28, TOOL: 28, DOWN: 28, UNAUTHORIZED: 13, UNSUBSCRIBED: 1}


def test_the_reference_calls_good_answers_failures_for_the_letters_error_in_them() -> None:
    film = {"result": [{"title": "Fido", "overview": "zombies, terror and an election"}]}
    assert classify_as_reference(str(film)) == "Message error..."
    assert classify(200, film).status is OK


def test_truncated_film_lists_were_recorded_as_failures(shared_data: Path) -> None:
    cut = [
        observation
        for code, observation in _recorded(shared_data / "toolbench_answers")
        if code == 11 and not observation.endswith("}")
    ]
    assert len(cut) == 14
    assert all("\"response\": \"{'result': [{'type'" in observation for observation in cut)


@pytest.mark.parametrize("blanks", [" ", "\n", "\t ", '" ', " <?xml"])
def test_a_body_of_blanks_takes_linear_time(blanks: str) -> None:
    started = time.process_time()
    assert classify(200, blanks * (250_000 // len(blanks)) + "<").status is OK
    assert time.process_time() - started < 0.5


def test_a_web_page_behind_blanks_is_one() -> None:
    assert is_html(' \n " <!doctype html><title>x</title>')

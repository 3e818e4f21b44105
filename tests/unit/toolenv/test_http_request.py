"""From endpoint and arguments to one HTTP request, with arguments that mean harm."""

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from services.toolenv.egress.policy import Injection
from services.toolenv.endpoints import EndpointParameter, ParameterPlace
from services.toolenv.executors.http_request import (
    BadArguments,
    BadEndpoint,
    OutgoingRequest,
    build_request,
)
from tests.fakes.live_api import live_entry

BASE = "https://api.test/v1"


def build(
    url: str, parameters: tuple[EndpointParameter, ...], arguments: dict[str, Any], **options: Any
) -> OutgoingRequest:
    injections = options.pop("injections", ())
    entry = live_entry(url, parameters=parameters, **options)
    return build_request(entry.endpoint, entry.document, arguments, injections)


def at(place: ParameterPlace, name: str = "x", **options: Any) -> tuple[EndpointParameter, ...]:
    return (EndpointParameter(name, place, **options),)


@pytest.mark.parametrize(
    ("value", "segment"),
    [
        ("Paris", "Paris"),
        ("São Paulo", "S%C3%A3o%20Paulo"),
        ("../../admin", "..%2F..%2Fadmin"),
        ("a/b?c=d#e", "a%2Fb%3Fc%3Dd%23e"),
        ("@evil.test", "%40evil.test"),
        ("..\\x", "..%5Cx"),
        ("%2e%2e", "%252e%252e"),
        ("a\r\nHost: evil", "a%0D%0AHost%3A%20evil"),
        (7, "7"),
        (2.0, "2"),
        (True, "true"),
        ([1, "b/c"], "1,b%2Fc"),
    ],
)
def test_a_path_argument_stays_one_segment(value: Any, segment: str) -> None:
    request = build(f"{BASE}/city/{{x}}/now", at("path"), {"x": value})
    assert request.url == f"{BASE}/city/{segment}/now"
    assert request.host == "api.test"


@given(st.text(min_size=1, max_size=30))
def test_no_text_leaves_its_path_segment_or_host(value: str) -> None:
    try:
        request = build(f"{BASE}/city/{{x}}/now", at("path"), {"x": value})
    except (BadArguments, UnicodeEncodeError):
        return
    url = httpx.URL(request.url)
    assert url.host == "api.test"
    assert url.raw_path.count(b"/") == 4
    assert url.query == b""


@pytest.mark.parametrize("value", [".", "..", "", None, {}])
def test_a_path_argument_that_would_vanish_or_climb_is_refused(value: Any) -> None:
    with pytest.raises(BadArguments):
        build(f"{BASE}/city/{{x}}/now", at("path"), {"x": value})


def test_a_missing_path_argument_is_named() -> None:
    with pytest.raises(BadArguments, match="missing required argument 'x'"):
        build(f"{BASE}/city/{{x}}", at("path"), {})


def test_a_missing_required_argument_and_one_without_a_place_are_named() -> None:
    with pytest.raises(BadArguments, match="'x'"):
        build(BASE, at("query"), {}, required=("x",))
    with pytest.raises(BadArguments, match="no place for 'other'"):
        build(BASE, at("query"), {"x": 1, "other": 2})


@pytest.mark.parametrize(
    ("value", "options", "query"),
    [
        ("a&b=c", {}, "x=a%26b%3Dc"),
        ("a b+c", {}, "x=a%20b%2Bc"),
        (False, {}, "x=false"),
        (1.5, {}, "x=1.5"),
        (1e300, {}, "x=1e%2B300"),
        ([1, 2], {}, "x=1&x=2"),
        ([1, "a,b"], {"explode": False}, "x=1,a%2Cb"),
        ({"a": 1}, {}, "x=%7B%22a%22%3A1%7D"),
        ("", {}, "x="),
    ],
)
def test_query_arguments_are_printed_as_forms_print_them(
    value: Any, options: dict[str, Any], query: str
) -> None:
    assert build(BASE, at("query", **options), {"x": value}).url == f"{BASE}?{query}"


@pytest.mark.parametrize("value", [None, []])
def test_null_and_an_empty_list_are_absent_from_a_query(value: Any) -> None:
    assert build(BASE, at("query"), {"x": value}).url == BASE


def test_a_query_that_the_address_has_already_stays() -> None:
    assert build(f"{BASE}?format=json", at("query"), {"x": 1}).url == f"{BASE}?format=json&x=1"


def test_names_are_mapped_back_to_what_the_upstream_expects() -> None:
    parameters = (*at("query", "User-Name"), *at("query", "id"), *at("query", "q", argument="Text"))
    url = build(BASE, parameters, {"user_name": "a", "is_id": 2, "text": "b"}).url
    assert parse_qsl(urlsplit(url).query) == [("User-Name", "a"), ("id", "2"), ("q", "b")]


@pytest.mark.parametrize("value", ["a\r\nX-Admin: 1", "a\nb", "a\x00b", "naïve", "\x7f"])
def test_a_header_argument_cannot_add_a_line(value: str) -> None:
    with pytest.raises(BadArguments, match="header"):
        build(BASE, at("header", "X-Lang"), {"x_lang": value})


@pytest.mark.parametrize("name", ["Host", "Content-Length", "Transfer-Encoding", "Cookie", "a b"])
def test_a_header_of_the_connection_is_no_place_for_an_argument(name: str) -> None:
    with pytest.raises(BadEndpoint):
        build(BASE, at("header", name, argument="x"), {"x": "1"})


def test_an_argument_replaces_neither_a_fixed_header_nor_a_credential() -> None:
    parameters = (*at("header", "X-Host"), *at("header", "X-Key"))
    request = build(
        BASE,
        parameters,
        {"x_host": "evil", "x_key": "evil"},
        headers=(("X-Host", "api.test"),),
        injections=[Injection("header", "X-Key", SecretStr("s3cret"))],
    )
    headers = [(name.lower(), value) for name, value in request.headers]
    assert ("x-host", "api.test") in headers
    assert ("x-key", "s3cret") in headers
    assert "evil" not in str(headers)


def test_a_cookie_argument_stays_one_cookie() -> None:
    request = build(BASE, at("cookie", "lang"), {"lang": "de; admin=1\r\nX: y"})
    assert dict(request.headers)["Cookie"] == "lang=de%3B%20admin=1%0D%0AX:%20y"


def test_body_arguments_are_keys_of_a_json_object_and_null_stays() -> None:
    parameters = (*at("body", "Text"), *at("body", "n"))
    request = build(BASE, parameters, {"text": 'a"é', "n": None}, method="POST")
    assert json.loads(request.content) == {"Text": 'a"é', "n": None}
    assert dict(request.headers)["Content-Type"] == "application/json"


def test_one_argument_may_be_the_whole_body() -> None:
    request = build(BASE, at("body", is_whole_body=True), {"x": [1, {"a": 2}]}, method="POST")
    assert json.loads(request.content) == [1, {"a": 2}]


def test_a_text_is_sent_as_it_is_where_the_endpoint_takes_text() -> None:
    fixed = (("Content-Type", "text/plain"),)
    body = at("body", is_whole_body=True)
    assert build(BASE, body, {"x": "hi"}, method="POST", headers=fixed).content == b"hi"


def test_a_post_without_arguments_sends_an_empty_object_where_it_takes_one() -> None:
    assert build(BASE, at("body"), {}, method="POST").content == b"{}"
    assert build(BASE, at("query"), {}, method="POST").content == b""


def test_form_arguments_are_url_encoded() -> None:
    request = build(BASE, at("form"), {"x": "a&b"}, method="POST")
    assert request.content == b"x=a%26b"
    assert dict(request.headers)["Content-Type"] == "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("url", "method"),
    [
        ("ftp://api.test/", "GET"),
        ("//api.test/", "GET"),
        ("https://user:pass@api.test/", "GET"),
        ("https://{region}.api.test/", "GET"),
        ("https://[bad/", "GET"),
        (f"{BASE}/{{open}}", "GET"),
        (BASE, "CONNECT"),
    ],
)
def test_an_endpoint_that_is_no_fixed_http_request_is_refused(url: str, method: str) -> None:
    with pytest.raises(BadEndpoint):
        build(url, (), {}, method=method)


def test_the_request_does_not_print_its_secrets() -> None:
    injections = [
        Injection("query", "key", SecretStr("s3cret-1")),
        Injection("bearer", "", SecretStr("s3cret-2")),
    ]
    request = build(BASE, (), {}, injections=injections)
    assert "s3cret" not in repr(request)
    assert "key=s3cret-1" in request.url

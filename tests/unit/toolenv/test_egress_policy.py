"""Allow-lists, and credentials put in their place."""

import pytest
from pydantic import SecretStr

from services.toolenv.egress.errors import EgressRefused
from services.toolenv.egress.injection import inject, sent_secrets
from services.toolenv.egress.policy import EgressPolicy, HostRule, Injection, policy_for
from services.toolenv.egress.targets import parse_target
from services.toolenv.endpoints import AuthPlacement, HttpEndpoint

_KEY = SecretStr("real-key-123")


def _rule_host(policy, url):
    return policy.rule_for(parse_target(url, schemes=("http", "https"))).host


def test_hosts_match_exactly_or_below_a_wildcard():
    policy = EgressPolicy("t", (HostRule("api.example.org"), HostRule("*.p.rapidapi.com")))
    assert _rule_host(policy, "https://api.example.org/x") == "api.example.org"
    assert _rule_host(policy, "https://weather.p.rapidapi.com/") == "*.p.rapidapi.com"


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/", "https://xapi.example.org/", "https://api.example.org.evil.com/",
        "https://api.example.org:8443/", "http://api.example.org/", "https://p.rapidapi.com/",
        "https://evilp.rapidapi.com/", "https://93.184.216.34/",
    ],
)  # fmt: skip
def test_what_is_not_listed_is_refused_with_the_list(url):
    policy = EgressPolicy("t", (HostRule("api.example.org"), HostRule("*.p.rapidapi.com")))
    with pytest.raises(EgressRefused, match=r"not on the tool's list \(api\.example\.org"):
        policy.rule_for(parse_target(url, schemes=("http", "https")))


def test_a_policy_follows_from_the_documents_of_a_tool():
    endpoints = [
        HttpEndpoint(
            "GET",
            "https://weather.p.rapidapi.com/now/{city}",
            headers=(("X-RapidAPI-Host", "weather.p.rapidapi.com"),),
            auth=(AuthPlacement("rapidapi", "header", "X-RapidAPI-Key"),),
        ),
        HttpEndpoint(
            "GET", "http://old.example.org:8080/x", auth=(AuthPlacement("none", "bearer"),)
        ),
    ]
    policy = policy_for("weather", endpoints, lookup={"rapidapi": _KEY}.get)
    first, second = policy.hosts
    assert (first.host, first.schemes, first.ports) == (
        "weather.p.rapidapi.com",
        {"https"},
        {443},
    )
    assert first.injections == (Injection("header", "X-RapidAPI-Key", _KEY),)
    assert (second.host, second.schemes, second.ports) == ("old.example.org", {"http"}, {8080})
    assert policy.missing_credentials == ("none",)
    assert policy.secrets() == ("real-key-123",)


def test_no_text_of_a_policy_shows_a_secret():
    policy = EgressPolicy("t", (HostRule("a.org", injections=(Injection("bearer", secret=_KEY),)),))
    assert "real-key" not in repr(policy)


def test_a_header_that_the_tool_set_is_replaced_whatever_its_case():
    outgoing = inject(
        "https://a.org/",
        [("x-rapidapi-KEY", "leaked"), ("Accept", "*/*")],
        [Injection("header", "X-RapidAPI-Key", _KEY)],
    )
    assert outgoing.headers == [("Accept", "*/*"), ("X-RapidAPI-Key", "real-key-123")]


def test_without_a_secret_the_tools_own_value_is_removed_all_the_same():
    headers = [("Authorization", "Bearer leaked"), ("X-Key", "leaked"), ("Cookie", "s=leaked; a=1")]
    outgoing = inject(
        "https://a.org/?key=leaked&q=1",
        headers,
        [
            Injection("bearer"),
            Injection("header", "X-Key"),
            Injection("query", "key"),
            Injection("cookie", "s"),
        ],
    )
    assert outgoing == ("https://a.org/?q=1", [("Cookie", "a=1")])


@pytest.mark.parametrize(
    ("injection", "url", "headers"),
    [
        (Injection("query", "key", _KEY), "https://a.org/x?q=%20&key=real-key-123#f", []),
        (Injection("bearer", secret=_KEY), None, [("Authorization", "Bearer real-key-123")]),
        (
            Injection("basic", secret=SecretStr("user:pw")),
            None,
            [("Authorization", "Basic dXNlcjpwdw==")],
        ),
        (Injection("cookie", "s", _KEY), None, [("Cookie", "s=real-key-123")]),
        (
            Injection("header", "Authorization", _KEY, prefix="Token "),
            None,
            [("Authorization", "Token real-key-123")],
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, Injection) else "",
)
def test_each_kind_of_placement(injection, url, headers):
    start = "https://a.org/x?q=%20&key=old&k%65y=older#f"
    outgoing = inject(start, [], [injection])
    assert outgoing.headers == headers
    assert outgoing.url == (url or start)


def test_the_encoded_form_of_a_password_is_a_secret_too():
    secrets = sent_secrets([Injection("basic", secret=SecretStr("user:password"))])
    assert secrets == ["user:password", "dXNlcjpwYXNzd29yZA==", "password"]

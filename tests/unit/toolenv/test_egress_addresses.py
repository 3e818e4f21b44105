"""Which addresses and URLs the guard lets pass."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.toolenv.egress.addresses import check_address, forbidden_reason
from services.toolenv.egress.errors import EgressRefused
from services.toolenv.egress.targets import Target, canonical_host, parse_target


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200",
        "127.0.0.1", "127.255.0.3", "169.254.169.254", "169.254.170.2", "172.16.0.1",
        "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1",
        "198.19.255.255", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.250",
        "240.0.0.1", "255.255.255.255", "168.63.129.16",
        "::", "::1", "::2", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8",
        "::ffff:0:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "100::1", "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1", "2001:db8::1", "2001:10::1",
        "2002:7f00:1::", "2002:a9fe:a9fe::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254",
        "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2a00:1450:4001::5efe:10.0.0.1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused(address):
    with pytest.raises(EgressRefused, match="egress refused"):
        check_address(address, host="api.example.org")


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1",
        "192.0.1.1", "198.17.255.255", "198.20.0.1", "223.255.255.255", "2606:4700:4700::1111",
        "2001:4860:4860::8888", "2a00:1450:4001:830::200e",
    ],
)  # fmt: skip
def test_a_public_address_passes(address):
    check_address(address)


@given(st.ip_addresses(v=4))
def test_what_the_standard_library_calls_private_is_never_public_here(address):
    assert forbidden_reason(address) is not None or not address.is_private


@given(st.ip_addresses(v=6, network="2000::/3"))
def test_the_same_holds_for_the_routable_part_of_version_6(address):
    assert forbidden_reason(address) is not None or not address.is_private


@pytest.mark.parametrize(
    "host",
    [
        "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.1", "127.0.0.1.",
        "127.0.0.01", "1.2.3.4.5", "0x", "169.254.43518", "example.com.", "example..com",
        "-a.com", "a_b-.com", "exa mple.com", "a" * 64 + ".com", "a." * 130 + "com", "fe80::1%1",
        "[::1", "12345::", "", ".",
    ],
)  # fmt: skip
def test_a_host_that_could_be_read_in_two_ways_is_refused(host):
    with pytest.raises(EgressRefused):
        canonical_host(host)


@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        ("API.Example.ORG", "api.example.org"),
        ("8.8.8.8", "8.8.8.8"),
        ("[2606:4700:0::1]", "2606:4700::1"),
        ("xn--mnchen-3ya.de", "xn--mnchen-3ya.de"),
        ("a_b.p.rapidapi.com", "a_b.p.rapidapi.com"),
    ],
)
def test_a_host_has_one_spelling(host, canonical):
    assert canonical_host(host) == canonical


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.org/", "ftp://api.example.org/", "file:///etc/passwd", "//host/x",
        "/relative", "https://", "https:///x", "https://user:pw@api.example.org/",
        "https://api.example.org@evil.com/", "https://api.example.org\\@evil.com/",
        "https://api.example.org/ x", "https://api.example.org/\r\nX: y", "https://a.com:99999/",
        "https://a.com:0/", "https://a.com:x/", "https://2130706433/", "https://0x7f.1/",
        "https://[fe80::1%25eth0]/", "https://exam\u0000ple.com/", "gopher://a.com/",
        "https://a.com/" + "x" * 8192, "https://①②⑦.0.0.1/",
    ],
)  # fmt: skip
def test_a_url_outside_the_rules_is_refused(url):
    with pytest.raises(EgressRefused) as caught:
        parse_target(url)
    assert caught.value.fix


def test_full_width_dots_and_idna_are_read_as_they_will_be_sent():
    assert parse_target("https://münchen.de/x").host == "xn--mnchen-3ya.de"
    assert parse_target("https://127\u30020\u30020\u30021/").host == "127.0.0.1"


def test_a_target_names_its_port_always():
    assert parse_target("https://A.example.org/x?k=v") == Target("https", "a.example.org", 443)
    assert parse_target("https://[2606:4700::1]:8443/").authority == "[2606:4700::1]:8443"


def test_a_refusal_does_not_repeat_the_query():
    with pytest.raises(EgressRefused) as caught:
        parse_target("https://a.com/ x?key=hidden-value")
    assert "hidden-value" not in str(caught.value)

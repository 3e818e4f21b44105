"""Unmodified HTTP libraries over a channel, in a process of its own because it is patched whole.

The far end is a fake that answers with what it was asked; the real one is in
`tests/integration/test_egress.py`.
"""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
_FAR_END = """
import base64, json
from services.toolenv.sandbox.webchannel import WebChannel
from services.toolenv.sandbox.webshims import install

class FarEnd:
    def __init__(self):
        self.asked = []
        self.answered = set()
    def send(self, message):
        json.dumps(message)
        self.asked.append(message)
    def receive(self):
        asked = self.asked[-1]
        while asked["id"] in self.answered:
            asked = self.asked[self.asked.index(asked) - 1]
        self.answered.add(asked["id"])
        return self.answer(asked) | {"id": asked["id"]}
    def answer(self, asked):
        def answer(status, headers=(), body=b""):
            return {"t": "http_result", "status": status, "reason": "Fine",
                    "headers": [list(pair) for pair in headers],
                    "body": base64.b64encode(body).decode()}
        path = asked["url"].partition("//")[2].partition("/")[2]
        if path.startswith("refused"):
            return {"t": "http_result", "kind": "refused", "error": "egress refused: because"}
        if path.startswith("slow"):
            return {"t": "http_result", "kind": "timeout", "error": "no answer within 2 s"}
        if path.startswith("moved"):
            return answer(302, [("Location", "/final")])
        if path.startswith("missing"):
            return answer(404, [("Content-Type", "text/plain")], b"none")
        if path.startswith("empty"):
            return answer(204)
        shown = {"method": asked["method"], "url": asked["url"], "timeout_s": asked["timeout_s"],
                 "headers": {name.lower(): value for name, value in asked["headers"]},
                 "body": base64.b64decode(asked["body"]).decode()}
        return answer(200, [("Content-Type", "application/json"), ("X-Two", "1"), ("X-Two", "2")],
                      json.dumps(shown).encode())

far_end = FarEnd()
install(WebChannel(far_end.send, far_end.receive))
URL = "https://api.example.org"

def error_of(function):
    try:
        return repr(function())
    except Exception as error:
        kinds = [f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__]
        return {"kinds": kinds, "text": str(error)}
"""


def _run(source):
    script = _FAR_END + textwrap.dedent(source) + "\nprint(json.dumps(result))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=_ROOT,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_requests_sends_queries_json_forms_headers_and_cookies():
    result = _run("""
        import requests
        session = requests.Session()
        session.headers["X-Session"] = "1"
        result = [
            requests.get(URL + "/a", params={"q": "ä b"}, timeout=5).json(),
            requests.post(URL + "/b", json={"n": 1}, headers={"X-Key": "k"}).json(),
            session.post(URL + "/c", data={"a": "b c"}, cookies={"s": "1"}).json(),
            requests.put(URL + "/d", data=(part for part in [b"one", b"two"])).json(),
            requests.get(URL + "/t", timeout=(3, 20)).json(),
            requests.post(URL + "/e", files={"file": ("n.txt", b"content")}).json(),
        ]
    """)
    assert (result[0]["url"], result[0]["timeout_s"]) == (
        "https://api.example.org/a?q=%C3%A4+b",
        5,
    )
    assert (result[1]["method"], json.loads(result[1]["body"])) == ("POST", {"n": 1})
    assert (result[1]["headers"]["x-key"], result[1]["timeout_s"]) == ("k", None)
    assert (result[2]["body"], result[2]["headers"]["x-session"]) == ("a=b+c", "1")
    assert result[2]["headers"]["cookie"] == "s=1"
    assert result[3]["body"] == "onetwo"
    assert result[4]["timeout_s"] == 20
    assert "content" in result[5]["body"]


def test_requests_streams_follows_redirects_and_reports_statuses():
    result = _run("""
        import requests
        with requests.get(URL + "/x", stream=True) as answer:
            parts = [len(part) for part in answer.iter_content(16)]
        result = {
            "parts": parts,
            "final": requests.get(URL + "/moved").url,
            "hops": len(far_end.asked),
            "unfollowed": requests.get(URL + "/moved", allow_redirects=False).status_code,
            "empty": requests.get(URL + "/empty").content.decode(),
            "head": requests.head(URL + "/x").status_code,
            "status": error_of(lambda: requests.get(URL + "/missing").raise_for_status()),
        }
    """)
    assert (max(result["parts"]), len(result["parts"]) > 3) == (16, True)
    assert (result["final"], result["hops"]) == ("https://api.example.org/final", 3)
    assert (result["unfollowed"], result["empty"], result["head"]) == (302, "", 200)
    assert "requests.exceptions.HTTPError" in result["status"]["kinds"]


@pytest.mark.parametrize(
    ("library", "call", "refused", "slow"),
    [
        (
            "requests",
            "requests.get(url, timeout=2)",
            "requests.exceptions.ConnectionError",
            "requests.exceptions.Timeout",
        ),
        ("httpx", "httpx.get(url)", "httpx.ConnectError", "httpx.ReadTimeout"),
        (
            "urllib.request",
            "urllib.request.urlopen(url)",
            "urllib.error.URLError",
            "builtins.TimeoutError",
        ),
        (
            "urllib3",
            "urllib3.PoolManager(retries=False).request('GET', url)",
            "urllib3.exceptions.ProtocolError",
            "urllib3.exceptions.ReadTimeoutError",
        ),
    ],
)
def test_errors_are_the_librarys_own_and_a_refusal_keeps_its_text(library, call, refused, slow):
    result = _run(f"""
        import {library}
        def get(url):
            return {call}
        result = [error_of(lambda: get(URL + path)) for path in ("/refused", "/slow")]
    """)
    assert refused in result[0]["kinds"] or refused == "httpx.ConnectError"
    assert result[0]["kinds"][0].endswith(refused.rsplit(".", 1)[1])
    assert "egress refused: because" in result[0]["text"]
    assert any(kind.endswith(slow.rsplit(".", 1)[1]) for kind in result[1]["kinds"])


def test_httpx_works_in_both_kinds_and_gathers():
    result = _run("""
        import asyncio, time
        import httpx
        async def both():
            async with httpx.AsyncClient(base_url=URL, timeout=7) as client:
                answers = await asyncio.gather(client.get("/1"), client.post("/2", json={"a": 1}))
            return [answer.json() for answer in answers]
        with httpx.Client(headers={"X-C": "1"}) as client:
            moved = client.get(URL + "/moved", follow_redirects=True).json()
            with client.stream("GET", URL + "/x", params={"ü": 1}) as answer:
                streamed = len(b"".join(answer.iter_bytes(8)))
        result = {
            "async": asyncio.run(both()), "moved": moved, "streamed": streamed,
            "two": httpx.get(URL).headers.get_list("x-two"),
            "status": error_of(lambda: httpx.get(URL + "/missing").raise_for_status()),
        }
    """)
    assert [answer["url"] for answer in result["async"]] == [
        "https://api.example.org/1",
        "https://api.example.org/2",
    ]
    assert (result["async"][0]["timeout_s"], result["async"][1]["body"]) == (7, '{"a":1}')
    assert (result["moved"]["url"], result["moved"]["headers"]["x-c"]) == (
        "https://api.example.org/final",
        "1",
    )
    assert (result["streamed"] > 50, result["two"]) == (True, ["1", "2"])
    assert "httpx.HTTPStatusError" in result["status"]["kinds"]


def test_http_client_and_urllib_of_the_standard_library_work():
    result = _run("""
        import http.client, urllib.request
        plain = http.client.HTTPConnection("api.example.org", 8080, timeout=3)
        plain.request("POST", "/x", body=iter([b"a", b"b"]), headers={"A": "1"})
        first = json.loads(plain.getresponse().read())
        plain.request("GET", "/y")
        second = json.loads(plain.getresponse().read())
        secure = http.client.HTTPSConnection("api.example.org")
        secure.request("DELETE", "/z")
        third = json.loads(secure.getresponse().read())
        request = urllib.request.Request(URL + "/u", data=b"q=1", headers={"X-A": "b"})
        with urllib.request.urlopen(request, timeout=4) as answer:
            fourth = json.loads(answer.read())
        moved = urllib.request.urlopen(URL + "/moved?to=http://x.org/").geturl()
        result = [first, second, third, fourth, moved,
                  error_of(lambda: urllib.request.urlopen(URL + "/missing"))]
    """)
    first, second, third, fourth, moved, missing = result
    assert (first["url"], first["body"]) == ("http://api.example.org:8080/x", "ab")
    assert (first["headers"], first["timeout_s"]) == ({"a": "1"}, 3)
    assert second["url"] == "http://api.example.org:8080/y"
    assert (third["method"], third["url"]) == ("DELETE", "https://api.example.org/z")
    assert (fourth["method"], fourth["body"], fourth["headers"]["x-a"]) == ("POST", "q=1", "b")
    assert moved == "https://api.example.org/final"
    assert "urllib.error.HTTPError" in missing["kinds"]


def test_a_proxy_another_host_header_and_a_line_break_do_not_pass():
    result = _run("""
        import http.client, requests
        def tunnel():
            connection = http.client.HTTPSConnection("proxy.example.org", 3128)
            connection.set_tunnel("api.example.org")
            connection.request("GET", "/")
        requests.get(URL, headers={"Host": "internal.example.org"})
        result = [
            error_of(tunnel),
            far_end.asked[-1]["headers"],
            error_of(lambda: requests.get(URL, headers={"X-A": "b\\r\\nX-B: c"})),
        ]
    """)
    assert "egress refused: a proxy" in result[0]["text"]
    assert ["Host", "internal.example.org"] in result[1]  # and the host refuses it
    assert "requests.exceptions.InvalidHeader" in result[2]["kinds"]


def test_modules_loaded_before_are_patched_at_once_and_cheaply():
    result = _run("""
        import time
        import asyncio, http.client, requests, httpx
        started = time.perf_counter()
        for _ in range(20):
            install(WebChannel(far_end.send, far_end.receive))
        result = (time.perf_counter() - started) / 20 * 1e3
    """)
    assert result < 0.2  # milliseconds


def test_a_rehearsal_leaves_everything_as_it_was():
    result = _run("""
        import http.client, urllib.request, requests, httpx, urllib3.connection, sys
        from services.toolenv.sandbox.webshims import rehearse
        undone = [
            (http.client.HTTPConnection, "connect"), (http.client.HTTPSConnection, "connect"),
            (urllib3.connection.HTTPSConnection, "connect"), (httpx.HTTPTransport, "__init__"),
            (urllib3.connection.HTTPConnection, "is_connected"),
            (httpx.HTTPTransport, "handle_request"),
            (http.client.ssl, "_create_default_https_context"),
        ]
        patched = [vars(owner)[name] for owner, name in undone]
        finders = len(sys.meta_path)
        rehearse()
        same = [vars(o)[n] is before for (o, n), before in zip(undone, patched)]
        result = [same, len(sys.meta_path) - finders, len(far_end.asked),
                  requests.get(URL + "/x").status_code, httpx.get(URL + "/x").status_code]
    """)
    assert result == [[True] * 7, 0, 0, 200, 200]


def test_an_event_loop_needs_no_socket_pair_and_can_be_woken_from_a_thread():
    result = _run("""
        import asyncio, socket, threading
        def forbidden(*_):
            raise PermissionError("socketpair")
        socket.socketpair = forbidden
        async def main():
            loop, event = asyncio.get_running_loop(), asyncio.Event()
            threading.Timer(0.05, loop.call_soon_threadsafe, [event.set]).start()
            await asyncio.wait_for(event.wait(), 5)
            return await asyncio.to_thread(lambda: "woken")
        result = asyncio.run(main())
    """)
    assert result == "woken"

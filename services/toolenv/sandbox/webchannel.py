"""A tool's HTTP requests as frames over the worker's one socket.

Runs inside the sandbox, in the hostile process: nothing here protects anything, the host checks
every frame again. Standard library only.
"""

from __future__ import annotations

import base64
import itertools
import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple
from urllib.parse import quote

from services.toolenv.sandbox.frames import JsonValue

Headers = list[tuple[str, str]]

# Libraries write these by themselves, and the broker writes its own.
_LEFT_TO_THE_BROKER = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "keep-alive", "transfer-encoding"}
)
# Besides letters, digits and "_.-~"; "%" because URLs arrive escaped.
_URL_SAFE = "%/:?#[]@!$&'()*+,;=~"


class EgressError(ConnectionError):
    """The request could not be made; the text is the egress broker's."""


class EgressTimeout(TimeoutError):
    """The server did not answer in time; the text is the egress broker's."""


class Answer(NamedTuple):
    """A response, decompressed."""

    status: int
    reason: str
    headers: Headers
    body: bytes


class WebChannel:
    """Exchanges requests for answers; threads may do so at the same time.

    Whoever waits first reads for all, and wakes the others whenever an answer has come.
    """

    def __init__(
        self,
        send: Callable[[dict[str, JsonValue]], None],
        receive: Callable[[], dict[str, JsonValue]],
    ) -> None:
        """Use the worker's connection through its two functions."""
        self._send = send
        self._receive = receive
        self._sending = threading.Lock()
        self._arrived = threading.Condition()
        self._answers: dict[JsonValue, dict[str, JsonValue]] = {}
        self._is_somebody_reading = False
        self._numbers = itertools.count(1)

    def exchange(
        self,
        method: str,
        url: str,
        headers: Iterable[tuple[str, str]],
        body: bytes,
        timeout_s: float | None,
    ) -> Answer:
        """Send one request and wait for its answer.

        Raises:
            EgressTimeout: The server did not answer in time.
            EgressError: Anything else went wrong, or the request was refused.
        """
        number = next(self._numbers)
        message: dict[str, JsonValue] = {
            "t": "http",
            "id": number,
            "method": method.upper(),
            "url": quote(url, safe=_URL_SAFE),
            "headers": [[name, value] for name, value in _kept(headers, url)],
            "body": base64.b64encode(body).decode("ascii"),
            "timeout_s": timeout_s,
        }
        with self._sending:
            try:
                self._send(message)
            except ValueError as error:  # the frame would be too long
                raise EgressError(f"egress refused: the request is too large ({error})") from error
        return _answer(self._await(number))

    def _await(self, number: int) -> dict[str, JsonValue]:
        with self._arrived:
            while number not in self._answers:
                if self._is_somebody_reading:
                    self._arrived.wait()
                    continue
                self._is_somebody_reading = True
                self._arrived.release()
                try:
                    answer = self._receive()
                finally:
                    self._arrived.acquire()
                    self._is_somebody_reading = False
                    self._arrived.notify_all()
                self._answers[answer["id"]] = answer
            return self._answers.pop(number)


def _kept(headers: Iterable[tuple[str, str]], url: str) -> Headers:
    """Headers for the host; a `Host` that only repeats the URL is dropped, another one is not."""
    authority = url.split("//", 1)[-1].split("/", 1)[0].split("?", 1)[0].lower()
    usual = {authority, authority.removesuffix(":443"), authority.removesuffix(":80")}
    kept = []
    for name, value in headers:
        lower = name.lower()
        is_usual_host = lower == "host" and value.lower() in usual
        if lower not in _LEFT_TO_THE_BROKER and not is_usual_host:
            kept.append((name, value))
    return kept


def _answer(result: dict[str, JsonValue]) -> Answer:
    error = result.get("error")
    if isinstance(error, str):
        if result.get("kind") == "timeout":
            raise EgressTimeout(error)
        raise EgressError(error)
    headers = result["headers"]
    return Answer(
        status=int(str(result["status"])),
        reason=str(result["reason"]),
        headers=[(str(p[0]), str(p[1])) for p in headers if isinstance(p, list)]
        if isinstance(headers, list)
        else [],
        body=base64.b64decode(str(result["body"])),
    )

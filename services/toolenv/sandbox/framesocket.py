"""A socket that carries one HTTP/1.1 request of `http.client` as a frame, and its answer as bytes.

Runs inside the sandbox, in the hostile process. Standard library only.
"""

from __future__ import annotations

import io

from services.toolenv.sandbox.webchannel import Answer, EgressTimeout, WebChannel

_NO_BODY = (204, 304)
_Request = tuple[str, str, list[tuple[str, str]], bytes]


class FrameSocket:
    """Stands in for a connected socket below `http.client`; carries one exchange at a time.

    The exchange happens as soon as the request is complete, so that a refusal is raised where
    `urllib` expects connection errors: while it sends. A timeout is kept until it reads, because
    there it is told apart from a failed connection. A lazy socket waits for the first read: urllib3
    sets its read timeout between the two, and treats errors alike.
    """

    def __init__(
        self, channel: WebChannel, base_url: str, timeout_s: object, *, is_lazy: bool
    ) -> None:
        self._channel = channel
        self._is_lazy = is_lazy
        self._request: _Request | None = None
        self._base_url = base_url
        self._sent = bytearray()
        self._answer: io.BytesIO | None = None
        self._timeout: EgressTimeout | None = None
        self.settimeout(timeout_s)

    def settimeout(self, timeout_s: object) -> None:
        """Set the seconds for the next exchange; None, or something strange, means no limit."""
        is_number = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
        self._timeout_s = float(str(timeout_s)) if is_number else None

    def gettimeout(self) -> float | None:
        """Seconds for an exchange."""
        return self._timeout_s

    def sendall(self, data: bytes, flags: int = 0) -> None:
        """Take bytes of the request; the last one makes the exchange."""
        self._sent += data
        request = _parse(self._sent)
        if request is None:
            return
        self._sent.clear()
        self._request = request
        if not self._is_lazy:
            self._exchange(request)

    def _exchange(self, request: _Request) -> None:
        self._request = None
        method, path, headers, body = request
        url = self._base_url + path if path.startswith("/") else path
        try:
            answer = self._channel.exchange(method, url, headers, body, self._timeout_s)
        except EgressTimeout as error:
            self._timeout = error
        else:
            self._answer = io.BytesIO(_render(answer, is_head=method == "HEAD"))

    def makefile(self, *_arguments: object, **_options: object) -> io.BufferedIOBase:
        """The answer's bytes; raises `EgressTimeout` if there is none."""
        if self._request is not None:
            self._exchange(self._request)
        if self._timeout is not None:
            raise self._timeout
        return self._answer or io.BytesIO()

    def setsockopt(self, *_arguments: object) -> None:
        """Options of a socket that does not exist."""

    def shutdown(self, _how: int) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Nothing is open."""

    def fileno(self) -> int:
        """No descriptor."""
        return -1


def _parse(sent: bytearray) -> _Request | None:
    """The request, once it is complete; `http.client` has written it, so its form is known."""
    head, separator, rest = bytes(sent).partition(b"\r\n\r\n")
    if not separator:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _version = first.split(" ", 2)
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    lower = {name.lower(): value for name, value in headers}
    if "chunked" in lower.get("transfer-encoding", "").lower():
        body = _unchunk(rest)
        return None if body is None else (method, path, headers, body)
    if len(rest) < int(lower.get("content-length") or 0):
        return None
    return method, path, headers, rest


def _unchunk(data: bytes) -> bytes | None:
    body = bytearray()
    while True:
        size_line, separator, data = data.partition(b"\r\n")
        if not separator:
            return None
        size = int(size_line.split(b";")[0], 16)
        if size == 0:
            return bytes(body)
        if len(data) < size + 2:
            return None
        body += data[:size]
        data = data[size + 2 :]


def _render(answer: Answer, *, is_head: bool) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    if not is_head and answer.status not in _NO_BODY:
        lines.append(f"Content-Length: {len(answer.body)}")
    lines += ["Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace") + answer.body

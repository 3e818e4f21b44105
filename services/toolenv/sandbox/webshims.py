"""Makes unmodified HTTP libraries speak through the worker's channel.

Two deep hooks serve five libraries. `http.client` connections get a socket that turns the bytes of
one HTTP/1.1 request into a frame and the answer back into bytes; `urllib.request`, urllib3 and
requests sit on top of it. httpx, which brings its own HTTP stack, gets another default transport.
asyncio learns to wake its loop by a pipe, because the sandbox has no `socketpair`.

A module that is loaded already is patched at once, another when it is imported: a tool that never
uses the network pays for one entry in `sys.meta_path`. Runs inside the sandbox, in the hostile
process; nothing here protects anything. Standard library only.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from services.toolenv.sandbox.frames import JsonValue
from services.toolenv.sandbox.framesocket import FrameSocket
from services.toolenv.sandbox.httpxshim import asynchronous, synchronous
from services.toolenv.sandbox.webchannel import EgressError, WebChannel


class _Patches:
    """Changed attributes, and how to change them back."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def put(self, owner: Any, name: str, value: object) -> None:
        """Set an attribute that exists, or one that does not."""
        if name in vars(owner):
            old = vars(owner)[name]
            self._undo.append(lambda: setattr(owner, name, old))
        else:
            self._undo.append(lambda: delattr(owner, name))
        setattr(owner, name, value)

    def insert_finder(self, finder: Any) -> None:
        """Ask `finder` before the others for modules to import."""
        sys.meta_path.insert(0, finder)
        self._undo.append(lambda: sys.meta_path.remove(finder))

    def undo(self) -> None:
        """Put everything back."""
        while self._undo:
            self._undo.pop()()


def install(channel: WebChannel) -> Callable[[], None]:
    """Route the process's HTTP libraries through `channel`; returns what undoes it."""
    patches = _Patches()
    appliers: dict[str, Callable[[ModuleType], None]] = {
        "http.client": lambda module: _patch_http_client(module, channel, patches),
        "urllib3.connection": lambda module: _patch_urllib3(module, channel, patches),
        "httpx._transports.default": lambda module: _patch_httpx(module, channel, patches),
        "asyncio.selector_events": lambda module: _patch_asyncio(module, patches),
    }
    later = {}
    for name, apply in appliers.items():
        loaded = sys.modules.get(name)
        if loaded is None:
            later[name] = apply
        else:
            apply(loaded)
    if later:
        patches.insert_finder(_PatchOnImport(later))
    return patches.undo


def rehearse() -> None:
    """Make one request with each library that is loaded, to nowhere, so that the next is fast.

    For the zygote: the interpreter specialises code in place and libraries fill their caches, which
    halves what the first request of a worker costs.
    """
    asked: list[dict[str, JsonValue]] = []
    answer: dict[str, JsonValue] = {
        "t": "http_result",
        "status": 200,
        "reason": "OK",
        "headers": [["Content-Type", "application/json"]],
        "body": "e30=",
    }
    undo = install(WebChannel(asked.append, lambda: {**answer, "id": asked.pop()["id"]}))
    try:
        for name, request in _REHEARSED.items():
            if name in sys.modules:
                # An optimisation: with an odd version of a library the tool meets the error itself.
                with contextlib.suppress(Exception):
                    request(sys.modules[name])
    finally:
        undo()


_NOWHERE = "https://rehearsal.invalid/path"


def _rehearse_requests(module: Any) -> None:
    headers = {"X-RapidAPI-Key": "k", "X-RapidAPI-Host": "h"}
    module.get(_NOWHERE, params={"q": "ä"}, headers=headers, timeout=1).json()
    module.post(_NOWHERE, json={"q": "ä"}).json()


def _rehearse_httpx(module: Any) -> None:
    module.get(_NOWHERE, params={"q": "ä"}, headers={"X-Key": "k"}, timeout=1).json()


def _rehearse_urllib(module: Any) -> None:
    with module.urlopen(_NOWHERE, timeout=1) as answer:
        answer.read()


_REHEARSED: dict[str, Callable[[Any], None]] = {
    "requests": _rehearse_requests,
    "httpx": _rehearse_httpx,
    "urllib.request": _rehearse_urllib,
}


class _PatchOnImport:
    """A finder that lets the others find, and patches what they have loaded."""

    def __init__(self, patches: dict[str, Callable[[ModuleType], None]]) -> None:
        self._patches = patches

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        patch = self._patches.pop(name, None)
        if patch is None:
            return None
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_and_patch(module: ModuleType) -> None:
            load(module)
            patch(module)

        # A loader object belongs to its spec alone.
        spec.loader.exec_module = load_and_patch  # type: ignore[method-assign]
        return spec


def _connector(
    channel: WebChannel, scheme: str, default_port: int, *, is_lazy: bool = False
) -> Callable[[Any], None]:
    def connect(connection: Any) -> None:
        if getattr(connection, "_tunnel_host", None):
            raise EgressError("egress refused: a proxy; call the API itself")
        host, port = connection.host, connection.port
        shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
        authority = shown if port in (None, default_port) else f"{shown}:{port}"
        connection.sock = FrameSocket(
            channel, f"{scheme}://{authority}", connection.timeout, is_lazy=is_lazy
        )

    return connect


def _patch_http_client(module: Any, channel: WebChannel, patches: _Patches) -> None:
    patches.put(module.HTTPConnection, "connect", _connector(channel, "http", 80))
    if hasattr(module, "HTTPSConnection"):
        patches.put(module.HTTPSConnection, "connect", _connector(channel, "https", 443))
        # Certificates are the broker's job; reading trust anchors here would only cost time.
        patches.put(module.ssl, "_create_default_https_context", _no_context)


def _no_context(*_arguments: object, **_options: object) -> Any:
    import ssl

    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _patch_urllib3(module: Any, channel: WebChannel, patches: _Patches) -> None:
    connect_http = _connector(channel, "http", 80, is_lazy=True)
    connect_https = _connector(channel, "https", 443, is_lazy=True)

    def connect(connection: Any) -> None:
        connect_http(connection)
        connection._has_connected_to_proxy = False

    def connect_verified(connection: Any) -> None:
        connect_https(connection)
        connection._has_connected_to_proxy = False
        connection.is_verified = True  # by the broker

    is_connected = property(lambda connection: connection.sock is not None)
    patches.put(module.HTTPConnection, "connect", connect)
    patches.put(module.HTTPConnection, "is_connected", is_connected)
    patches.put(module.HTTPSConnection, "connect", connect_verified)


def _patch_httpx(module: Any, channel: WebChannel, patches: _Patches) -> None:
    for name, value in synchronous(channel).items():
        patches.put(module.HTTPTransport, name, value)
    for name, value in asynchronous(channel).items():
        patches.put(module.AsyncHTTPTransport, name, value)


class _PipeEnd:
    """The part of a socket that an event loop wakes itself with, on one end of a pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def recv(self, count: int) -> bytes:
        return os.read(self._descriptor, count)

    def send(self, data: bytes) -> int:
        return os.write(self._descriptor, data)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _patch_asyncio(module: Any, patches: _Patches) -> None:
    def make_self_pipe(loop: Any) -> None:
        read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        loop._ssock, loop._csock = _PipeEnd(read_end), _PipeEnd(write_end)
        loop._internal_fds += 1
        loop._add_reader(read_end, loop._read_from_self)

    patches.put(module.BaseSelectorEventLoop, "_make_self_pipe", make_self_pipe)

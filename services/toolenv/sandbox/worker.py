"""One call of one tool, in a process that exists for this call only.

Runs inside the sandbox, forked from the zygote. Once the tool's source is executed this process is
hostile: the host believes nothing of what comes back beyond its shape. Standard library only.

Messages to the host: `ready`, at most one `code` (compiled source for the host's cache), one
`result`.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import io
import marshal
import os
import socket
import sys
import time
import types
from typing import TYPE_CHECKING, NoReturn

from services.toolenv.sandbox.frames import (
    FrameBuffer,
    FrameError,
    FrameTooLong,
    JsonValue,
    encode_frame,
)
from services.toolenv.sandbox.policy import SandboxLimits
from services.toolenv.sandbox.results import SandboxOutcome

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

MAX_ERROR_CHARS = 2000
_MAX_NAMES_LISTED = 20
_READ_BYTES = 1 << 16
_DENIALS = (errno.EPERM, errno.EACCES, errno.EROFS)


class _Refused(Exception):
    """The call cannot be carried out; becomes the result."""

    def __init__(self, outcome: SandboxOutcome, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome
        self.text = text


class _HostConnection:
    """The worker's only way out."""

    def __init__(self, connection: socket.socket, limits: SandboxLimits) -> None:
        self._socket = connection
        self._frame_bytes = limits.frame_bytes
        self._buffer = FrameBuffer(limit_bytes=limits.frame_bytes)
        # Encoded ahead of time: when memory is exhausted there is none left to encode the report.
        self._out_of_memory = encode_frame(
            _result(SandboxOutcome.MEMORY_LIMIT, error=_memory_text(limits)),
            limit_bytes=limits.frame_bytes,
        )

    def send(self, message: dict[str, JsonValue]) -> None:
        try:
            self._socket.sendall(encode_frame(message, limit_bytes=self._frame_bytes))
        except MemoryError:
            self._socket.sendall(self._out_of_memory)

    def receive(self) -> dict[str, JsonValue]:
        while (message := self._buffer.pop()) is None:
            data = self._socket.recv(_READ_BYTES)
            if not data:
                os._exit(0)  # an idle worker whose host closed the pool
            self._buffer.feed(data)
        return message


class _Capture(io.RawIOBase):
    """Keeps the first bytes that a tool prints and ends the call at the first byte too many."""

    def __init__(self, host: _HostConnection, limit_bytes: int) -> None:
        super().__init__()
        self._host = host
        self._limit_bytes = limit_bytes
        self._kept = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data).cast("B")
        room = self._limit_bytes - len(self._kept)
        self._kept += view[:room]
        if len(view) > room:
            text = f"printed more than {self._limit_bytes} bytes"
            self._host.send(_result(SandboxOutcome.OUTPUT_LIMIT, stdout=self.text(), error=text))
            os._exit(0)
        return len(view)

    def text(self) -> str:
        return self._kept.decode("utf-8", "ignore")


def serve_one_call(connection: socket.socket, limits: SandboxLimits) -> NoReturn:
    """Announce readiness, run one job, report, exit; the process must already be confined."""
    host = _HostConnection(connection, limits)
    capture = _Capture(host, limits.output_bytes)
    sys.stdin = io.StringIO()
    sys.stdout = sys.stderr = io.TextIOWrapper(
        capture,
        encoding="utf-8",
        errors="backslashreplace",
        write_through=True,
    )
    host.send({"t": "ready"})
    job = host.receive()
    report = _report(host, job, limits)
    report["stdout"] = capture.text()
    host.send(report)
    os._exit(0)


def _report(
    host: _HostConnection, job: dict[str, JsonValue], limits: SandboxLimits
) -> dict[str, JsonValue]:
    try:
        value = _run(host, job)
        _check_size(value, limits)
        return _result(SandboxOutcome.OK, value=value)
    except _Refused as refusal:
        return _result(refusal.outcome, error=refusal.text)
    except MemoryError:
        return _result(SandboxOutcome.MEMORY_LIMIT, error=_memory_text(limits))
    except BaseException as error:  # noqa: BLE001  # tools raise anything, SystemExit included
        # Only errors of system calls carry a number; `raise PermissionError("no")` is the tool's
        # own opinion.
        denied = isinstance(error, OSError) and error.errno in _DENIALS
        return _result(
            SandboxOutcome.VIOLATION if denied else SandboxOutcome.TOOL_ERROR,
            error=_describe(error),
        )


def _run(host: _HostConnection, job: dict[str, JsonValue]) -> JsonValue:
    module = types.ModuleType("tool")
    sys.modules["tool"] = module  # dataclasses and typing look their module up by name
    exec(_code(host, job), module.__dict__)  # noqa: S102  # what a worker is for
    name, arguments = job.get("function"), job.get("arguments")
    function = module.__dict__.get(name) if isinstance(name, str) else None
    if not callable(function):
        raise _Refused(SandboxOutcome.UNKNOWN_FUNCTION, f"no function {name!r}; {_names(module)}")
    if not isinstance(arguments, dict):
        raise _Refused(
            SandboxOutcome.BAD_ARGUMENTS,
            f"arguments are a {type(arguments).__name__}, not an object",
        )
    try:
        value: JsonValue = function(**arguments)
    except TypeError as error:
        # No frame below this one: the call itself was refused, so the arguments do not fit the
        # signature.
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:
            raise _Refused(SandboxOutcome.BAD_ARGUMENTS, _describe(error)) from error
        raise
    return value


def _code(host: _HostConnection, job: dict[str, JsonValue]) -> types.CodeType:
    """Unmarshal the host's cached code, else compile the source and offer it for the cache."""
    cached, source = job.get("code"), job.get("source")
    if isinstance(cached, str):
        code: types.CodeType = marshal.loads(base64.b64decode(cached))  # noqa: S302  # confined
        return code
    code = compile(str(source), "api.py", "exec", dont_inherit=True)
    with contextlib.suppress(FrameTooLong):  # such a source is compiled at every call
        host.send({"t": "code", "code": base64.b64encode(marshal.dumps(code)).decode("ascii")})
    return code


def _names(module: types.ModuleType) -> str:
    functions = sorted(
        n for n, v in module.__dict__.items() if isinstance(v, types.FunctionType) and n[0] != "_"
    )
    return f"the source defines {', '.join(functions[:_MAX_NAMES_LISTED]) or 'no function'}"


def _check_size(value: JsonValue, limits: SandboxLimits) -> None:
    try:
        encode_frame({"value": value}, limit_bytes=limits.result_bytes + len('{"value":}'))
    except FrameTooLong as error:
        text = f"the result is larger than {limits.result_bytes} bytes"
        raise _Refused(SandboxOutcome.OUTPUT_LIMIT, text) from error
    except FrameError as error:
        raise _Refused(SandboxOutcome.TOOL_ERROR, f"TypeError: the result is {error}") from error


def _describe(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001  # a hostile __str__ may raise even SystemExit
        text = "(its text could not be read)"
    name = type(error).__name__
    described = f"{name}: {text}" if text else name
    return described.encode("utf-8", "backslashreplace").decode("utf-8")[:MAX_ERROR_CHARS]


def _memory_text(limits: SandboxLimits) -> str:
    return f"MemoryError: the call needs more than {limits.memory_bytes >> 20} MiB"


def _result(
    outcome: SandboxOutcome, *, value: JsonValue = None, error: str = "", stdout: str = ""
) -> dict[str, JsonValue]:
    return {
        "t": "result",
        "outcome": outcome,
        "value": value,
        "error": error,
        "stdout": stdout,
        "cpu_s": time.process_time(),
    }

"""One call of one tool, in a process that exists for this call only.

Runs inside the sandbox, forked from the zygote. Once the tool's source is executed this process is
hostile: the host believes nothing of what comes back beyond its shape. Standard library only.

Messages to the host: `ready`, at most one `code` (compiled source for the host's cache), `http`
requests if the job has a network, one `result`.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import io
import marshal
import os
import sys
import time
import types
from typing import TYPE_CHECKING, BinaryIO, NoReturn, TextIO, cast

from services.toolenv.sandbox.frames import (
    FrameBuffer,
    FrameError,
    FrameTooLong,
    JsonValue,
    encode_frame,
)
from services.toolenv.sandbox.policy import SandboxLimits
from services.toolenv.sandbox.results import SandboxOutcome
from services.toolenv.sandbox.webchannel import WebChannel
from services.toolenv.sandbox.webshims import install, rehearse

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

MAX_ERROR_CHARS = 2000
_MAX_NAMES_LISTED = 20
_READ_BYTES = 1 << 16
# The key argument of ToolBench's `api.py` convention. The broker writes the real key over it.
_KEY_PARAMETER, _KEY_PLACEHOLDER = "toolbench_rapidapi_key", "added-by-the-egress-broker"
_DENIALS = (errno.EPERM, errno.EACCES, errno.EROFS)
_WEB_REHEARSALS = 10  # the interpreter specialises code in place after 8 runs
_REHEARSED_SOURCE = "def run(a, b=0):\n    return {'sum': a + b, 'text': 'x', 'items': [a, b]}\n"
_REHEARSAL = encode_frame(
    {
        "t": "job",
        "function": "run",
        "arguments": {"a": 1, "b": 2},
        "code": base64.b64encode(
            marshal.dumps(compile(_REHEARSED_SOURCE, "api.py", "exec", dont_inherit=True))
        ).decode("ascii"),
    },
    limit_bytes=1 << 16,
)


class _Refused(Exception):
    """The call cannot be carried out; becomes the result."""

    def __init__(self, outcome: SandboxOutcome, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome
        self.text = text


class _HostConnection:
    """The worker's only way out."""

    def __init__(self, limits: SandboxLimits) -> None:
        self._descriptor = -1
        self._frame_bytes = limits.frame_bytes
        self._buffer = FrameBuffer(limit_bytes=limits.frame_bytes)
        # Encoded ahead of time: when memory is exhausted there is none left to encode the report.
        self._out_of_memory = encode_frame(
            _result(SandboxOutcome.MEMORY_LIMIT, error=_memory_text(limits)),
            limit_bytes=limits.frame_bytes,
        )

    def connect(self, descriptor: int) -> None:
        """Use this socket, whose reads and writes block, from now on."""
        self._descriptor = descriptor

    def send(self, message: dict[str, JsonValue]) -> None:
        try:
            self.send_frame(encode_frame(message, limit_bytes=self._frame_bytes))
        except MemoryError:
            self.send_frame(self._out_of_memory)

    def send_request(self, message: dict[str, JsonValue]) -> None:
        """Send an `http` frame; raises `FrameTooLong`, and `MemoryError` for the tool to see."""
        self.send_frame(encode_frame(message, limit_bytes=self._frame_bytes))

    def send_frame(self, frame: bytes) -> None:
        """Send what is encoded already."""
        sent = os.write(self._descriptor, frame)
        while sent < len(frame):
            sent += os.write(self._descriptor, memoryview(frame)[sent:])

    def receive(self) -> dict[str, JsonValue]:
        while (message := self._buffer.pop()) is None:
            data = os.read(self._descriptor, _READ_BYTES)
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


class Station:
    """What every worker needs before its job, built once in the zygote and inherited by forking."""

    def __init__(self, limits: SandboxLimits) -> None:
        self._limits = limits
        self._host = _HostConnection(limits)
        self._capture = _Capture(self._host, limits.output_bytes)
        self._stdin = io.StringIO()
        raw: io.RawIOBase = self._capture
        self._stdout: TextIO = io.TextIOWrapper(
            cast("BinaryIO", raw), encoding="utf-8", errors="backslashreplace", write_through=True
        )
        self._ready = encode_frame({"t": "ready"}, limit_bytes=limits.frame_bytes)
        for _ in range(_WEB_REHEARSALS):
            rehearse()

    def rehearse(self) -> None:
        """Run a trusted job without host, so that a worker finds warm paths and touched memory."""
        buffer = FrameBuffer(limit_bytes=self._limits.frame_bytes)
        buffer.feed(_REHEARSAL)
        job = buffer.pop()
        if job is not None:
            report = _report(self._host, job, self._limits)
            report["stdout"] = self._capture.text()
            encode_frame(report, limit_bytes=self._limits.frame_bytes)
        sys.modules.pop("tool", None)

    def serve_one_call(self, descriptor: int) -> NoReturn:
        """Announce readiness, run one job, report, exit; the process is confined already."""
        host = self._host
        host.connect(descriptor)
        sys.stdin = self._stdin
        sys.stdout = sys.stderr = self._stdout
        host.send_frame(self._ready)
        job = host.receive()
        report = _report(host, job, self._limits)
        report["stdout"] = self._capture.text()
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
    has_network = job.get("egress") is True
    if has_network:
        install(WebChannel(host.send_request, host.receive))
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
    if has_network and _KEY_PARAMETER in _parameters(function):
        arguments.setdefault(_KEY_PARAMETER, _KEY_PLACEHOLDER)
    try:
        value: JsonValue = function(**arguments)
    except TypeError as error:
        # No frame below this one: the call itself was refused, so the arguments do not fit the
        # signature.
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:
            raise _Refused(SandboxOutcome.BAD_ARGUMENTS, _describe(error)) from error
        raise
    return value


def _parameters(function: object) -> tuple[str, ...]:
    """Names of what a plain function takes; of another callable nothing is known."""
    if not isinstance(function, types.FunctionType):
        return ()
    code = function.__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


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

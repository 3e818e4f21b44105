"""The process from which workers are forked; trusted code only, no job, no secret.

Runs inside the outer jail as `python -I -S -c "...main()" <control fd> <limits as JSON>`. Standard
library only.

Control socket (SOCK_SEQPACKET, JSON per packet). From the host: `fork {id}` with the worker's end
of a socket pair, `kill {id}`. To the host: `up {uid, landlock_abi, python}` with a
pidfd of this process, `forked {id}` with the worker's pidfd, `exit {id, status, cpu_s}`.
"""

from __future__ import annotations

import array
import gc
import json
import os
import select
import signal
import socket
import sys
from typing import NoReturn

from services.toolenv.sandbox import confine, worker
from services.toolenv.sandbox.frames import encode_frame
from services.toolenv.sandbox.policy import SandboxLimits
from services.toolenv.sandbox.seccomp import FilterTemplate, assemble

# What tools commonly import: loading it here once costs each fork little and saves each call
# milliseconds.
# fmt: off
_PRELOAD = (
    "abc", "ast", "base64", "binascii", "bisect", "calendar", "cmath", "collections",
    "collections.abc", "colorsys", "contextlib", "copy", "csv", "dataclasses", "datetime",
    "decimal", "difflib", "enum", "fractions", "functools", "hashlib", "heapq", "hmac", "html",
    "io", "itertools", "json", "keyword", "locale", "math", "numbers", "operator", "pathlib",
    "pprint", "random", "re", "secrets", "socket", "statistics", "string", "struct", "textwrap",
    "threading", "time", "traceback", "types", "typing", "unicodedata", "urllib.parse", "uuid",
    "warnings", "zlib", "zoneinfo", "tzdata", "encodings.idna",
)
# fmt: on

_PACKET_BYTES = 4096
_SETUP_FAILED = 97  # exit status of a worker that could not be confined


def main() -> NoReturn:
    """Prepare what workers share, report to the host, fork on request until the host goes."""
    control = socket.socket(fileno=int(sys.argv[1]))
    limits = SandboxLimits.from_json(sys.argv[2])
    os.environ.clear()  # noqa: TID251  # so that no tool reads any
    os.closerange(3, control.fileno())
    os.closerange(control.fileno() + 1, 1 << 16)
    if os.getuid() == 0 or os.geteuid() == 0:
        raise SystemExit("the zygote runs as uid 0; it needs an unprivileged uid")
    confine.forbid_new_privileges()
    confine.hide_from_same_uid()
    sys.path.append("/site")
    for name in _PRELOAD:
        __import__(name)
    _Zygote(control, limits).serve()


class _Zygote:
    """Single-threaded fork server; a thread here would make every fork unsafe."""

    def __init__(self, control: socket.socket, limits: SandboxLimits) -> None:
        self._control = control
        self._limits = limits
        self._pid = os.getpid()
        self._ruleset, self._landlock_abi = confine.build_landlock_ruleset()
        self._filter: FilterTemplate = assemble()
        self._ids: dict[int, int] = {}  # pid -> worker id
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> NoReturn:
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write)
        os.dup2(0, 1)  # descriptors 0-2 become /dev/null for the workers
        gc.collect()
        gc.disable()
        gc.freeze()
        self._send_up()
        os.dup2(0, 2)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._wake_read:
                    os.read(self._wake_read, 512)
                    self._reap()
                else:
                    self._obey()

    def _send(self, message: dict[str, object], descriptor: int | None = None) -> None:
        packet = json.dumps(message).encode()
        if descriptor is None:
            self._control.send(packet)
        else:
            socket.send_fds(self._control, [packet], [descriptor])

    def _send_up(self) -> None:
        own = os.pidfd_open(self._pid)
        self._send(
            {
                "t": "up",
                "uid": os.getuid(),
                "landlock_abi": self._landlock_abi,
                "python": f"{sys.implementation.cache_tag} {sys.version}",
            },
            own,
        )
        os.close(own)

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            worker_id = self._ids.pop(pid, None)
            if worker_id is not None:
                cpu_s = usage.ru_utime + usage.ru_stime
                self._send({"t": "exit", "id": worker_id, "status": status, "cpu_s": cpu_s})

    def _obey(self) -> None:
        packet, descriptors = _receive(self._control)
        if not packet:
            os._exit(0)  # the host closed the sandbox or died
        order = json.loads(packet)
        if order["t"] == "fork":
            self._fork(order["id"], descriptors[0])
        elif order["t"] == "kill":
            self._kill(order["id"])

    def _kill(self, worker_id: int) -> None:
        """Kill for a host without CAP_KILL, which may not signal the sandbox's uid."""
        for pid, known in self._ids.items():
            if known == worker_id:
                os.kill(pid, signal.SIGKILL)

    def _fork(self, worker_id: int, connection: int) -> None:
        pid = os.fork()
        if pid == 0:
            self._become_worker(connection)
        os.close(connection)
        self._ids[pid] = worker_id
        descriptor = os.pidfd_open(pid)
        self._send({"t": "forked", "id": worker_id}, descriptor)
        os.close(descriptor)

    def _become_worker(self, descriptor: int) -> NoReturn:
        try:
            connection = socket.socket(fileno=descriptor)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._control.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._confine_or_report(connection)
            gc.enable()
            worker.serve_one_call(connection, self._limits)
        finally:
            os._exit(_SETUP_FAILED)

    def _confine_or_report(self, connection: socket.socket) -> None:
        try:
            confine.confine_worker(
                zygote_pid=self._pid,
                limits=self._limits,
                ruleset=self._ruleset,
                program=self._filter.for_pid(os.getpid()),
            )
        except OSError as error:
            message = {"t": "failed", "error": str(error)}
            connection.sendall(encode_frame(message, limit_bytes=self._limits.frame_bytes))
            raise


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    packet, ancillary, _, _ = control.recvmsg(_PACKET_BYTES, socket.CMSG_SPACE(4))
    descriptors = array.array("i")
    for _, _, data in ancillary:
        descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return packet, list(descriptors)

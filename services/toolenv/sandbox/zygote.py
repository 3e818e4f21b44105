"""The process from which workers are forked; trusted code only, no job, no secret.

Runs inside the outer jail as `python -I -S -c "...main()" <control fd> <limits as JSON>
<profile>`. Standard
library only.

Control socket (SOCK_SEQPACKET, JSON per packet). From the host: `fork {id}` with the worker's end
of a socket pair, `kill {id}`. To the host: `up {uid, landlock_abi, python}` with a
pidfd of this process, `forked {id}` with the worker's pidfd, `exit {id, status, cpu_s}`.
"""

from __future__ import annotations

# What `signal` wraps; its conversions to enums touch 80 pages of every worker.
import _signal  # type: ignore[import-not-found]
import array
import gc
import json
import os
import random
import select
import signal
import socket
import sys
import threading
from typing import NoReturn

from services.toolenv.sandbox import confine, worker
from services.toolenv.sandbox.frames import encode_frame
from services.toolenv.sandbox.policy import SCRATCH_MOUNT, SandboxLimits

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
_WEB_PRELOAD = ("asyncio", "http.client", "ssl", "urllib.request", "requests", "httpx")

_PACKET_BYTES = 4096
_SIGCHLD, _DEFAULT_HANDLER = int(signal.SIGCHLD), int(signal.SIG_DFL)
_REHEARSALS = 20  # the interpreter specialises code in place after 8 runs; later runs write less
_SETUP_FAILED = 97  # exit status of a worker that could not be confined


def main() -> NoReturn:
    """Prepare what workers share, report to the host, fork on request until the host goes."""
    control = socket.socket(fileno=int(sys.argv[1]))
    limits = SandboxLimits.from_json(sys.argv[2])
    preload = _PRELOAD + (_WEB_PRELOAD if sys.argv[3] == "web" else ())
    os.environ.clear()  # noqa: TID251  # so that no tool reads any
    os.closerange(3, control.fileno())
    os.closerange(control.fileno() + 1, 1 << 16)
    if os.getuid() == 0 or os.geteuid() == 0:
        raise SystemExit("the zygote runs as uid 0; it needs an unprivileged uid")
    confine.forbid_new_privileges()
    confine.hide_from_same_uid()
    sys.path.append("/site")
    for name in preload:
        __import__(name)
    if threading.active_count() != 1:
        raise SystemExit("a preloaded module started a thread; forking would be unsafe")
    if limits.scratch_bytes:
        # Imported here only, because every module makes each fork slower.
        import tempfile

        tempfile.tempdir = SCRATCH_MOUNT
    _Zygote(control, limits).serve()


class _Zygote:
    """Single-threaded fork server; a thread here would make every fork unsafe."""

    def __init__(self, control: socket.socket, limits: SandboxLimits) -> None:
        self._control = control
        self._limits = limits
        self._pid = os.getpid()
        self._ids: dict[int, int] = {}  # pid -> worker id
        self._station = worker.Station(limits)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._confinement = confine.Confinement(limits)

    def serve(self) -> NoReturn:
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write)
        for _ in range(_REHEARSALS):
            self._station.rehearse()
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
                "landlock_abi": self._confinement.landlock_abi,
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
                self._send_exit(worker_id, status, usage.ru_utime + usage.ru_stime)

    def _send_exit(self, worker_id: int, status: int, cpu_s: float) -> None:
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
        try:
            pid = confine.fork_bare()
        except OSError:  # too many processes, or too little memory: this worker only is lost
            os.close(connection)
            self._send_exit(worker_id, _SETUP_FAILED << 8, 0.0)
            return
        if pid == 0:
            self._become_worker(connection)
        os.close(connection)
        self._ids[pid] = worker_id
        descriptor = os.pidfd_open(pid)
        self._send({"t": "forked", "id": worker_id}, descriptor)
        os.close(descriptor)

    def _become_worker(self, descriptor: int) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            _signal.signal(_SIGCHLD, _DEFAULT_HANDLER)
            os.close(self._control.fileno())
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._confine_or_report(descriptor)
            random.seed()  # `fork_bare` leaves the zygote's state in every child
            self._station.rehearse()
            gc.enable()
            self._station.serve_one_call(descriptor)
        finally:
            os._exit(_SETUP_FAILED)

    def _confine_or_report(self, descriptor: int) -> None:
        try:
            self._confinement.confine_worker()
        except OSError as error:
            message = {"t": "failed", "error": str(error)}
            os.write(descriptor, encode_frame(message, limit_bytes=self._limits.frame_bytes))
            raise


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    packet, ancillary, _, _ = control.recvmsg(_PACKET_BYTES, socket.CMSG_SPACE(4))
    descriptors = array.array("i")
    for _, _, data in ancillary:
        descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return packet, list(descriptors)

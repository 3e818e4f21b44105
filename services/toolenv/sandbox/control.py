"""The host's side of one zygote: launch, order workers, hear how they end, notice its death."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
from typing import NamedTuple

from services.toolenv.sandbox.policy import Profile, SandboxLimits
from services.toolenv.sandbox.results import SandboxUnavailable
from services.toolenv.sandbox.rootfs import RootFs
from services.toolenv.sandbox.tiers import ENVIRONMENT, Tier, launch_command
from services.toolenv.sandbox.workers import Worker, WorkerExit

_START_TIMEOUT_S = 20.0  # a zygote boots in 0.05 s; a busy machine may need many times that
_STOP_TIMEOUT_S = 3.0
_DYING_TIMEOUT_S = 0.5
_PACKET_BYTES = 8192
_FIX_FOR_TIER: dict[Tier, str] = {
    "ns": (
        "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1; on "
        "Ubuntu 24.04 kernel.apparmor_restrict_unprivileged_userns=0 or an AppArmor profile "
        "for bwrap with 'userns,'), "
        "or run as root to use tier 'chroot'"
    ),
    "chroot": "grant the container the capabilities SETUID, SETGID, SYS_CHROOT and KILL",
}


class ZygoteFacts(NamedTuple):
    """What the zygote said about itself when it came up."""

    uid: int
    landlock_abi: int
    python_build: str


class Zygote:
    """One running zygote. Create with `start`; `died` resolves when its control socket closes."""

    def __init__(
        self, process: subprocess.Popen[bytes], control: socket.socket, limits: SandboxLimits
    ) -> None:
        self.died: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.facts = ZygoteFacts(uid=0, landlock_abi=0, python_build="")
        self._process = process
        self._control = control
        self._limits = limits
        self._workers: dict[int, Worker] = {}
        self._ids = itertools.count(1)
        self._pidfd: int | None = None
        self._dying: set[int] = set()  # workers whose end `stop` waits for
        self._reaped = asyncio.Event()

    @classmethod
    async def start(
        cls,
        tier: Tier,
        *,
        rootfs: RootFs,
        limits: SandboxLimits,
        dedicated_uid: int | None,
        profile: Profile = "lean",
    ) -> Zygote:
        """Launch a zygote and wait until it is ready to fork.

        Raises:
            SandboxUnavailable: It did not come up; the text holds what it wrote and how to mend it.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            with theirs:
                command = launch_command(
                    tier,
                    rootfs=rootfs,
                    control_descriptor=theirs.fileno(),
                    limits=limits,
                    profile=profile,
                    dedicated_uid=dedicated_uid,
                )
                # Blocks for about 2 ms (vfork and exec). Not in a thread: bubblewrap's
                # --die-with-parent takes the end of the launching thread for the end of the parent.
                process = subprocess.Popen(  # noqa: ASYNC220, S603
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env=ENVIRONMENT,
                    cwd="/",
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        zygote = cls(process, ours, limits)
        try:
            await zygote._come_up(tier)
        except BaseException:
            await zygote.stop()
            raise
        return zygote

    async def _come_up(self, tier: Tier) -> None:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._control, readable.set)
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await readable.wait()
        except TimeoutError as error:
            raise SandboxUnavailable(
                f"tier {tier!r}: no sign of life within {_START_TIMEOUT_S:.0f} s"
            ) from error
        finally:
            loop.remove_reader(self._control)
        packet, descriptors = self._receive()
        if not packet:
            raise SandboxUnavailable(
                f"tier {tier!r} did not start: {self._last_words()}; {_FIX_FOR_TIER[tier]}"
            )
        self._pidfd = descriptors[0]
        message = json.loads(packet)
        self.facts = ZygoteFacts(message["uid"], message["landlock_abi"], message["python"])
        if self.facts.uid == 0:
            raise SandboxUnavailable(f"tier {tier!r}: the zygote runs as uid 0 and must not")
        if tier == "chroot" and self.facts.landlock_abi < 1:
            raise SandboxUnavailable(
                "tier 'chroot' needs Landlock; use a kernel >= 5.13 booted with lsm=landlock"
            )
        loop.add_reader(self._control, self._on_control)

    def _last_words(self) -> str:
        """What a failed launch, which has closed its control socket, wrote to stderr."""
        self._process.kill()
        self._process.wait(_STOP_TIMEOUT_S)
        stream = self._process.stderr
        text = ""
        if stream is not None:
            os.set_blocking(stream.fileno(), False)  # a surviving child may hold the other end open
            text = (stream.read(4096) or b"").decode("utf-8", "replace").strip()
        return text[-600:] or f"exit status {self._process.returncode}"

    @property
    def pid(self) -> int | None:
        """Process id of the zygote as the host sees it, None when it has died."""
        if self._pidfd is None:
            return None
        with open(f"/proc/self/fdinfo/{self._pidfd}", encoding="ascii") as lines:
            pids = [int(line.split()[1]) for line in lines if line.startswith("Pid:")]
        return pids[0] if pids and pids[0] > 0 else None

    @property
    def worker_count(self) -> int:
        """Workers that were ordered and whose end is not known yet."""
        return len(self._workers)

    def kill(self) -> None:
        """End the zygote as if it had died; `died` resolves when its control socket closes."""
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._control.shutdown(socket.SHUT_RDWR)  # also without CAP_KILL

    def spawn(self) -> Worker:
        """Order one worker, usable at once: its readiness arrives over its own connection."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        worker = Worker(next(self._ids), ours, frame_bytes=self._limits.frame_bytes)
        self._workers[worker.worker_id] = worker
        with theirs:
            order = json.dumps({"t": "fork", "id": worker.worker_id}).encode()
            try:
                socket.send_fds(self._control, [order], [theirs.fileno()])
            except OSError:  # the zygote is dead or stuck; either way this worker will never come
                self._lose(worker)
        return worker

    def _order_kill(self, worker_id: int) -> None:
        with contextlib.suppress(OSError):  # a dead zygote takes its workers along
            self._control.send(json.dumps({"t": "kill", "id": worker_id}).encode())

    def _receive(self) -> tuple[bytes, list[int]]:
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._control, _PACKET_BYTES, 1)
        except ConnectionError:
            return b"", []
        return packet, descriptors

    def _on_control(self) -> None:
        while True:
            try:
                packet, descriptors = self._receive()
            except BlockingIOError:
                return
            if not packet:
                self._on_death()
                return
            self._on_packet(json.loads(packet), descriptors)

    def _on_packet(self, message: dict[str, object], descriptors: list[int]) -> None:
        worker_id = int(str(message["id"]))
        worker = self._workers.get(worker_id)
        if message["t"] == "exit":
            self._dying.discard(worker_id)
            if not self._dying:
                self._reaped.set()
        if message["t"] == "forked":
            for descriptor in descriptors:
                if worker is None:
                    os.close(descriptor)
                else:
                    worker.attach(descriptor, self._order_kill)
        elif message["t"] == "exit" and worker is not None:
            del self._workers[worker.worker_id]
            worker.set_ended(WorkerExit(int(str(message["status"])), float(str(message["cpu_s"]))))

    def _lose(self, worker: Worker) -> None:
        """Record an end nobody can describe; the connection stays with the call that uses it."""
        self._workers.pop(worker.worker_id, None)
        worker.kill()
        worker.set_ended(None)

    def _on_death(self) -> None:
        asyncio.get_running_loop().remove_reader(self._control)
        for worker in list(self._workers.values()):
            self._lose(worker)
        self._reaped.set()
        if not self.died.done():
            self.died.set_result(None)

    async def stop(self) -> None:
        """End the zygote and all its workers, and reap it; safe to repeat."""
        loop = asyncio.get_running_loop()
        self._dying = set(self._workers)
        self._reaped.clear()
        for worker in list(self._workers.values()):
            self._lose(worker)
        await self._wait_for_the_dying()
        loop.remove_reader(self._control)
        self._control.close()
        if self._pidfd is not None:
            self._kill_by_pidfd(self._pidfd)
            self._pidfd = None
        if self._process.stderr:
            self._process.stderr.close()
        await asyncio.to_thread(self._reap)
        if not self.died.done():
            self.died.set_result(None)

    async def _wait_for_the_dying(self) -> None:
        """Let the zygote reap its workers first: afterwards only the machine's init would."""
        if not self._dying or self.died.done():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DYING_TIMEOUT_S):
                await self._reaped.wait()

    @staticmethod
    def _kill_by_pidfd(pidfd: int) -> None:
        # Gone already, or it goes by itself because its control socket is closed.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)

    def _reap(self) -> None:
        """Wait for the launched process; it ends by itself when its control socket closes."""
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            # PermissionError: a container without CAP_KILL.
            with contextlib.suppress(PermissionError, subprocess.TimeoutExpired):
                self._process.kill()
                self._process.wait(_STOP_TIMEOUT_S)

"""Calls of tools, each in a fresh worker of the pool, and the opening of a sandbox."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from os import geteuid
from pathlib import Path
from platform import machine
from typing import Literal

from services.toolenv.egress.policy import EgressPolicy
from services.toolenv.sandbox.brokerlink import BrokerGone, BrokerLink, BrokerOptions
from services.toolenv.sandbox.cgroups import CgroupMode, open_cgroup
from services.toolenv.sandbox.codecache import CodeCache
from services.toolenv.sandbox.frames import FrameError, JsonValue, encode_frame
from services.toolenv.sandbox.gate import Gate
from services.toolenv.sandbox.groups import PoolGroups
from services.toolenv.sandbox.policy import Profile, SandboxLimits
from services.toolenv.sandbox.probes import ProbeResult, run_probes
from services.toolenv.sandbox.results import SandboxOutcome, SandboxResult, SandboxUnavailable
from services.toolenv.sandbox.rootfs import held, prepare_rootfs, remove_unused
from services.toolenv.sandbox.shard import ZygotePlan
from services.toolenv.sandbox.sites import DependencyError
from services.toolenv.sandbox.syscalls import TABLES
from services.toolenv.sandbox.tiers import Tier, reserved_uid
from services.toolenv.sandbox.verdicts import Verdict, judge_exit, judge_message
from services.toolenv.sandbox.workers import Worker, WorkerGone

_MAX_ATTEMPTS = 3  # a worker that is lost before its job began costs the call nothing else
_END_TIMEOUT_S = 2.0  # SIGKILL to wait status: milliseconds, on an overloaded machine over 1 s


@dataclass(slots=True)
class _Attempt:
    """Where a call is; read when its deadline strikes."""

    profile: Profile = "lean"
    dependencies: tuple[str, ...] = ()
    worker: Worker | None = None
    has_started: bool = False
    gate: Gate | None = None


class Sandbox:
    """A pool of confined workers. Made by `open_sandbox` only; for use on one event loop."""

    def __init__(self, groups: PoolGroups, limits: SandboxLimits, broker: BrokerLink) -> None:
        self._groups = groups
        self._pool = groups.plain
        self._broker = broker
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.max_concurrent_calls)
        self._waiting = 0
        self._is_closed = False
        self._cache = CodeCache(max_entries=limits.code_cache_entries)
        self._probe_results: tuple[ProbeResult, ...] = ()

    @property
    def tier(self) -> str:
        """`ns` or `chroot`."""
        return self._pool.plan.tier

    @property
    def landlock_abi(self) -> int:
        """Landlock ABI version of the kernel, 0 when it has none."""
        return self._pool.facts.landlock_abi

    @property
    def probe_results(self) -> tuple[ProbeResult, ...]:
        """The canary attacks that ran at the start; empty when they were switched off."""
        return self._probe_results

    @property
    def zygote_pid(self) -> int | None:
        """Process id of the first plain zygote on the host, None while there is none."""
        return self._pool.zygote_pids[0]

    @property
    def zygote_pids(self) -> tuple[int | None, ...]:
        """Process ids of the plain zygotes, one for each shard; None while one is replaced."""
        return self._pool.zygote_pids

    @property
    def groups(self) -> tuple[str, ...]:
        """Running zygote groups as "site/profile", "base/lean" first."""
        return self._groups.alive

    @property
    def cgroup_mode(self) -> CgroupMode:
        """`v1`, `v2`, or `none` where the host may not make a cgroup."""
        cgroup = self._pool.plan.cgroup
        return "none" if cgroup is None else cgroup.mode

    @property
    def broker_pid(self) -> int | None:
        """Process id of the egress broker, None while there is none."""
        return self._broker.pid

    async def warm_egress(self) -> None:
        """Start the egress broker now instead of with the first request (0.5 s).

        Raises:
            SandboxUnavailable: It cannot be started.
        """
        try:
            await self._broker.warm_up()
        except BrokerGone as error:
            raise SandboxUnavailable(str(error)) from error

    def is_alive(self) -> bool:
        """Whether a zygote is up, so that a call would start at once."""
        return self._pool.is_up

    async def call(
        self,
        *,
        source: str,
        function: str,
        arguments: Mapping[str, JsonValue],
        deadline_s: float,
        egress: EgressPolicy | None = None,
        dependencies: tuple[str, ...] = (),
    ) -> SandboxResult:
        """Run `function(**arguments)` of `source` in a fresh worker.

        Everything that can go wrong is an outcome, never an exception; cancelling the call kills
        its worker.

        Args:
            source: Text of the tool's `api.py`; executed as module `tool` before the function is
                called.
            function: Name of a module-level function.
            arguments: Keyword arguments, JSON values.
            deadline_s: Seconds for everything, waiting for a worker included; capped by
                `SandboxLimits.wall_s`.
            egress: Hosts the call may reach through the egress broker; None means no network.
            dependencies: Lines of the tool's `requirements.txt`, each `name==version`; the base set
                (requests, httpx, tzdata) needs no line.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        if not (math.isfinite(deadline_s) and deadline_s > 0):
            text = f"deadline_s={deadline_s!r} leaves no time; pass a positive number of seconds"
            return _failure(Verdict(SandboxOutcome.TIMEOUT, text), 0.0)
        until = started + min(deadline_s, self._limits.wall_s)
        key = CodeCache.key(source, self._pool.facts.python_build)
        try:
            job, unknown = self._encode(
                key, source, function, arguments, has_egress=egress is not None
            )
        except FrameError as error:
            return _failure(
                Verdict(SandboxOutcome.BAD_ARGUMENTS, f"the call is {error}"), loop.time() - started
            )
        refusal = await self._enter_queue(until)
        if refusal is not None:
            return _failure(refusal, loop.time() - started)
        try:
            attempt = _Attempt(
                profile=self._cache.profile(key, source),
                dependencies=dependencies,
                gate=None if egress is None else self._gate(egress, until),
            )
            result = await self._run(attempt, job, key=unknown, until=until)
        finally:
            self._slots.release()
        return replace(result, latency_s=loop.time() - started)

    def _encode(
        self,
        key: str,
        source: str,
        function: str,
        arguments: Mapping[str, JsonValue],
        *,
        has_egress: bool,
    ) -> tuple[bytes, str | None]:
        """The job, and `key` when its compiled code is still unknown."""
        code = self._cache.get(key)
        job: dict[str, JsonValue] = {"t": "job", "function": function, "arguments": dict(arguments)}
        job |= {"source": source} if code is None else {"code": code}
        job |= {"egress": True} if has_egress else {}
        return encode_frame(
            job, limit_bytes=self._limits.frame_bytes
        ), key if code is None else None

    async def _enter_queue(self, until: float) -> Verdict | None:
        """Take a slot, or say why there is none."""
        limits = self._limits
        if self._is_closed:
            return Verdict(SandboxOutcome.UNAVAILABLE, "the sandbox is closed")
        if self._slots.locked() and self._waiting >= limits.max_waiting_calls:
            text = (
                f"{limits.max_concurrent_calls} calls run and {self._waiting} wait, the limit is "
                f"{limits.max_waiting_calls}; try again later"
            )
            return Verdict(SandboxOutcome.UNAVAILABLE, text)
        if not self._slots.locked():  # the usual case, without a timer
            await self._slots.acquire()
            return None
        self._waiting += 1
        try:
            async with asyncio.timeout_at(until):
                await self._slots.acquire()
        except TimeoutError:
            busy = limits.max_concurrent_calls
            text = f"all {busy} workers stayed busy until the deadline; try again later"
            return Verdict(SandboxOutcome.UNAVAILABLE, text)
        finally:
            self._waiting -= 1
        return None

    async def _run(
        self, attempt: _Attempt, job: bytes, *, key: str | None, until: float
    ) -> SandboxResult:
        try:
            async with asyncio.timeout_at(until):
                for _ in range(_MAX_ATTEMPTS):
                    result = await self._attempt(attempt, job, key)
                    if result is not None:
                        return result
            why = self._pool.last_failure or "the machine may lack memory"
            text = f"workers end before they are ready; {why}"
            return _failure(Verdict(SandboxOutcome.UNAVAILABLE, text), 0.0)
        except TimeoutError:
            return await self._expired(attempt)
        except (DependencyError, SandboxUnavailable) as error:
            return _failure(Verdict(SandboxOutcome.UNAVAILABLE, str(error)), 0.0)
        finally:
            if attempt.worker is not None:
                attempt.worker.close()

    def _gate(self, policy: EgressPolicy, until: float) -> Gate:
        loop = asyncio.get_running_loop()
        return Gate(
            policy,
            self._broker,
            left_s=lambda: until - loop.time(),
            frame_bytes=self._limits.frame_bytes,
        )

    async def _attempt(
        self, attempt: _Attempt, job: bytes, key: str | None
    ) -> SandboxResult | None:
        """One worker's try; None when it was lost before the job began, so that another may try."""
        pool = await self._groups.pool_for(attempt.profile, attempt.dependencies)
        worker = attempt.worker = await pool.take()
        try:
            await worker.wait_until_ready()
            await worker.send(job)
            attempt.has_started = True
            pool.refill()
            message = await worker.receive()
            if key is not None and message.get("t") == "code":
                self._remember(key, message)
                message = await worker.receive()
            if attempt.gate is not None:
                message = await attempt.gate.serve(worker, message)
        except FrameError as error:
            worker.kill()
            verdict = Verdict(
                SandboxOutcome.PROTOCOL_ERROR,
                f"the tool wrote on the sandbox's own channel: {error}",
            )
            return await self._ended(worker, verdict)
        except WorkerGone as error:
            if attempt.has_started:
                return await self._ended(worker, None)
            pool.note_loss(worker, str(error))
            await self._ended(worker, None)  # afterwards a zygote's death is known too
            worker.close()
            return None
        return judge_message(message, self._limits, frame_bytes=worker.last_frame_bytes)

    def _remember(self, key: str, message: dict[str, JsonValue]) -> None:
        code = message.get("code")
        if not isinstance(code, str):
            raise FrameError("compiled code is not text")
        self._cache.put(key, code)

    async def _expired(self, attempt: _Attempt) -> SandboxResult:
        if attempt.worker is None or not attempt.has_started:
            why = self._pool.last_failure or "the machine is overloaded"
            text = f"no worker was ready before the deadline; {why}"
            return _failure(Verdict(SandboxOutcome.UNAVAILABLE, text), 0.0)
        attempt.worker.kill()
        text = "the call did not finish before its deadline and was killed"
        return await self._ended(attempt.worker, Verdict(SandboxOutcome.TIMEOUT, text))

    async def _ended(self, worker: Worker, verdict: Verdict | None) -> SandboxResult:
        """Wait for a worker's end; without a verdict the way it ended decides."""
        try:
            async with asyncio.timeout(_END_TIMEOUT_S):
                end = await asyncio.shield(worker.ended)
        except TimeoutError:
            text = f"the worker closed its connection and did not end within {_END_TIMEOUT_S} s"
            return _failure(verdict or Verdict(SandboxOutcome.CRASHED, text), 0.0)
        if verdict is None:
            verdict = judge_exit(end, self._limits)
        return _failure(verdict, 0.0, cpu_s=end.cpu_s if end else None)

    async def probe(self) -> None:
        """Attack the pool with the canary tools and keep the results.

        Raises:
            SandboxUnavailable: An attack succeeded, or a harmless tool did not work.
        """
        self._probe_results = await run_probes(self, self._limits)

    async def aclose(self) -> None:
        """Kill everything; calls in flight end as `UNAVAILABLE`. Safe to repeat."""
        self._is_closed = True
        await self._broker.aclose()
        await self._groups.aclose()


def _failure(verdict: Verdict, latency_s: float, *, cpu_s: float | None = None) -> SandboxResult:
    return SandboxResult(
        outcome=verdict.outcome,
        value=None,
        error=verdict.error,
        stdout="",
        latency_s=latency_s,
        cpu_s=cpu_s,
    )


@asynccontextmanager
async def open_sandbox(
    *,
    home: Path,
    limits: SandboxLimits = SandboxLimits(),  # noqa: B008  # frozen
    tier: Literal["auto", "ns", "chroot"] = "auto",
    pool_size: int = 4,
    zygotes: int = 1,
    probes: bool = True,
    broker: BrokerOptions = BrokerOptions(),  # noqa: B008  # frozen
) -> AsyncIterator[Sandbox]:
    """A running sandbox, closed at the end of the context.

    Args:
        home: Folder for the root file system, built on first use (seconds, 70 MB) and reused
            afterwards.
        limits: Bounds of each call and of the pool.
        tier: `auto` tries `ns`, then `chroot` when the host is root.
        pool_size: Workers forked ahead of demand, 1..64, for all shards together.
        zygotes: Shards of each pool, 1..16; one for each core that may fork at the same time.
        probes: Whether to attack the sandbox with canary tools first; switch off only where another
            sandbox with the same home and tier has just been probed.
        broker: Public configuration of the egress broker, which the first call with a network
            starts.

    Raises:
        SandboxUnavailable: No tier works here or a probe failed; there is no unsafe fallback.
        ValueError: `pool_size` or `zygotes` is out of range.
    """
    if not 1 <= pool_size <= 64:
        raise ValueError(f"pool_size={pool_size!r} is outside 1..64")
    if not 1 <= zygotes <= 16:
        raise ValueError(f"zygotes={zygotes!r} is outside 1..16")
    _require_syscall_table()
    rootfs = await asyncio.to_thread(prepare_rootfs, home)
    with ExitStack() as stack:
        stack.enter_context(held(rootfs))
        await asyncio.to_thread(remove_unused, home)
        cgroup = open_cgroup(memory_bytes=limits.pool_memory_bytes, pids=limits.pool_processes)
        stack.callback(cgroup.close)
        groups = await _first_that_starts(
            [ZygotePlan(one, rootfs, limits, cgroup=cgroup) for one in _candidates(tier)],
            home=home,
            zygotes=zygotes,
            pool_size=pool_size,
        )
        broker_uid = stack.enter_context(reserved_uid()) if geteuid() == 0 else None
        sandbox = Sandbox(groups, limits, BrokerLink(broker, dedicated_uid=broker_uid))
        try:
            if probes:
                await sandbox.probe()
            yield sandbox
        finally:
            await sandbox.aclose()
            await cgroup.aclose()


def _require_syscall_table() -> None:
    if machine() not in TABLES:
        raise SandboxUnavailable(
            f"no system call table for {machine()!r}, only for {', '.join(TABLES)}; "
            "run toolenv on an x86_64 machine"
        )


def _candidates(tier: Literal["auto", "ns", "chroot"]) -> tuple[Tier, ...]:
    if tier != "auto":
        return (tier,)
    return ("ns", "chroot") if geteuid() == 0 else ("ns",)


async def _first_that_starts(
    plans: Sequence[ZygotePlan], *, home: Path, zygotes: int, pool_size: int
) -> PoolGroups:
    reasons = []
    for plan in plans:
        groups = PoolGroups(plan, home=home, zygotes=zygotes, pool_size=pool_size)
        try:
            await groups.plain.start()
        except SandboxUnavailable as error:
            reasons.append(str(error))
        else:
            return groups
    raise SandboxUnavailable("; ".join(reasons))

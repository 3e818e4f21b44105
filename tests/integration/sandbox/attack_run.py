"""Runs the attack table against one sandbox and says what came of every attack.

As a program, for use inside a container: `python -m tests.integration.sandbox.attack_run HOME TIER`
prints one JSON object and exits with 1 when anything was not as it must be.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from services.toolenv.sandbox import Sandbox, SandboxLimits, SandboxOutcome, open_sandbox
from tests.integration.sandbox.attacks.attack import Attack, tool
from tests.integration.sandbox.attacks.table import ATTACKS
from tests.integration.sandbox.canaries import SECRET_PREFIX, Canaries, planted
from tests.integration.sandbox.processes import POOL_SIZE

LIMITS = SandboxLimits(memory_bytes=256 << 20, cpu_s=2)
_AT_ONCE = 4  # attacks side by side: each of them is a busy process
_HONEST = "def run(n): return n + 1"
_GRACE_S = 1.0  # a call may end this long after its deadline
_END_GRACE_S = 3.0  # until a worker that left the connection without ending is given up


def limits_for(tier: str) -> SandboxLimits:
    """A private folder makes more attacks possible than the default; only tier `ns` has one."""
    return replace(LIMITS, scratch_bytes=16 << 20) if tier == "ns" else LIMITS


@dataclass(frozen=True, slots=True)
class AttackReport:
    """What one attack came to; `problems` is empty when it was stopped as it must be."""

    name: str
    group: str
    outcome: str
    detail: str
    latency_s: float
    problems: tuple[str, ...]


async def run_attacks(
    sandbox: Sandbox, canaries: Canaries, attacks: Sequence[Attack] = ATTACKS
) -> dict[str, AttackReport]:
    """Reports by name: the quiet attacks side by side, then those that must be alone."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(attack: Attack) -> AttackReport:
        async with slots:
            return await _attack(sandbox, canaries, attack)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(attack)) for attack in attacks if not attack.is_alone]
    reports = [task.result() for task in tasks]
    for attack in attacks:
        if attack.is_alone:
            reports.append(await _attack(sandbox, canaries, attack))
    return {report.name: report for report in reports}


async def _attack(sandbox: Sandbox, canaries: Canaries, attack: Attack) -> AttackReport:
    arguments = {"canary": dict(canaries.arguments())}
    result = await sandbox.call(
        source=attack.tool, function="run", arguments=arguments, deadline_s=attack.deadline_s
    )
    problems = []
    if result.outcome not in attack.expected:
        problems.append(f"outcome {result.outcome}, not one of {sorted(attack.expected)}")
    if str(result.value).startswith("ESCAPED"):
        problems.append(f"it got what it wanted: {result.value!r:.200}")
    if SECRET_PREFIX in f"{result.value}{result.error}{result.stdout}":
        problems.append("it read the host's secret")
    if result.outcome is not SandboxOutcome.OK and not result.error:
        problems.append("the outcome has no text")
    if result.latency_s > attack.deadline_s + _GRACE_S + _END_GRACE_S:
        problems.append(f"it ended {result.latency_s - attack.deadline_s:.1f} s after its deadline")
    problems += [f"on the host, {effect}" for effect in canaries.effects()]
    problems += await _next_calls(sandbox, attack, arguments)
    return AttackReport(
        name=attack.name,
        group=attack.group,
        outcome=str(result.outcome),
        detail=(result.error or repr(result.value))[:200],
        latency_s=round(result.latency_s, 3),
        problems=tuple(problems),
    )


async def _next_calls(sandbox: Sandbox, attack: Attack, arguments: dict[str, object]) -> list[str]:
    """An honest call, and the call that looks for what the attack left behind."""
    problems = []
    honest = await sandbox.call(
        source=_HONEST, function="run", arguments={"n": 41}, deadline_s=20.0
    )
    if honest.value != 42:
        problems.append(f"the next call came to {honest.outcome}: {honest.error}")
    if attack.after:
        later = await sandbox.call(
            source=tool(attack.after), function="run", arguments=arguments, deadline_s=20.0
        )
        if later.outcome is not SandboxOutcome.OK or str(later.value).startswith("ESCAPED"):
            problems.append(
                f"a later call saw a trace: {later.outcome} {later.value} {later.error}"
            )
    return problems


async def _main(home: Path, tier: str) -> int:
    started = time.monotonic()
    with planted() as canaries:
        async with open_sandbox(
            home=home,
            tier=tier,  # type: ignore[arg-type]  # checked by open_sandbox
            limits=limits_for(tier),
            pool_size=POOL_SIZE,
        ) as sandbox:
            opened_as = sandbox.tier
            probes = [probe.name for probe in sandbox.probe_results if probe.is_passed]
            reports = await run_attacks(sandbox, canaries)
            is_alive = sandbox.is_alive()
    slowest = sorted(reports.values(), key=lambda report: -report.latency_s)[:8]
    failed = [asdict(report) for report in reports.values() if report.problems]
    print(
        json.dumps(
            {
                "tier": opened_as,
                "probes_passed": len(probes),
                "attacks": len(reports),
                "stopped": len(reports) - len(failed),
                "is_alive": is_alive,
                "seconds": round(time.monotonic() - started, 1),
                "slowest": {report.name: report.latency_s for report in slowest},
                "failed": failed,
            },
            indent=1,
        )
    )
    return 1 if failed or not is_alive else 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(_main(Path(sys.argv[1]), sys.argv[2])))

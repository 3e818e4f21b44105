"""A host that cannot confine a tool refuses to run one, and says what to do."""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.toolenv.sandbox import SandboxOutcome, SandboxUnavailable, open_sandbox
from services.toolenv.sandbox import probes as probes_module
from tests.integration.sandbox.children import (
    DOCKER_CAPABILITIES,
    OpenInterpreter,
    open_interpreter,
    run_child,
    with_capabilities,
    without_program,
)

pytestmark = pytest.mark.anyio
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="takes rights away from root: runs when the host is root"
)

_UNPRIVILEGED_UID = 12345
_OPEN = """
import asyncio, json, sys
from pathlib import Path
from services.toolenv.sandbox import SandboxUnavailable, open_sandbox
async def main():
    try:
        async with open_sandbox(home=Path(sys.argv[1]), tier=sys.argv[2]) as sandbox:
            call = await sandbox.call(
                source="import os\\ndef run(): return os.getuid()",
                function="run",
                arguments={},
                deadline_s=25,
            )
            print(json.dumps({
                "tier": sandbox.tier,
                "outcome": call.outcome,
                "uid": call.value,
                "is_safe": all(probe.is_passed for probe in sandbox.probe_results),
                "landlock_abi": sandbox.landlock_abi,
            }))
    except SandboxUnavailable as error:
        print(json.dumps({"refused": str(error)}))
asyncio.run(main())
"""


def _under(filter_name: str) -> list[str]:
    """A command prefix that puts a child under a seccomp filter."""
    return [sys.executable, str(Path(__file__).with_name("outer_filter.py")), filter_name]


@pytest.fixture
def open_home() -> Iterator[Path]:
    """A home that its ordinary user owns, below folders that everybody may traverse."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    subprocess.run(["chmod", "-R", "u+rwx", str(folder)], check=False, timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def interpreter(sandbox_home: Path) -> Iterator[OpenInterpreter]:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield open_interpreter(sandbox_home, folder)
    shutil.rmtree(folder, ignore_errors=True)


def _as_user(
    interpreter: OpenInterpreter, home: Path, tier: str, *prefix: str
) -> dict[str, object]:
    own = home / "home"
    own.mkdir(mode=0o700)
    os.chown(own, _UNPRIVILEGED_UID, _UNPRIVILEGED_UID)
    ids = f"{_UNPRIVILEGED_UID}"
    child = run_child(
        _OPEN,
        str(own),
        tier,
        prefix=[
            *prefix,
            "setpriv",
            f"--reuid={ids}",
            f"--regid={ids}",
            "--clear-groups",
            "--bounding-set=-all",
            "--inh-caps=-all",
            "--",
        ],
        python=interpreter.python,
        environment=interpreter.environment,
    )
    assert isinstance(child.answer, dict), child.stderr
    return child.answer


def _refusal(*prefix: str, home: Path, tier: str = "auto") -> str:
    child = run_child(_OPEN, str(home), tier, prefix=prefix)
    assert isinstance(child.answer, dict), child.stderr
    return str(child.answer.get("refused", f"it opened: {json.dumps(child.answer)}"))


@needs_root
def test_neither_bubblewrap_nor_chroot_is_a_refusal_that_names_both(sandbox_home):
    text = _refusal(
        *without_program("bwrap"),
        *with_capabilities([name for name in DOCKER_CAPABILITIES if name != "sys_chroot"]),
        home=sandbox_home,
    )
    assert "install bubblewrap" in text
    assert "SETUID, SETGID, SYS_CHROOT and KILL" in text


@needs_root
def test_without_bubblewrap_root_falls_back_to_chroot(sandbox_home):
    child = run_child(_OPEN, str(sandbox_home), "auto", prefix=without_program("bwrap"))
    assert child.answer.get("tier") == "chroot", child
    assert (child.answer["outcome"], child.answer["is_safe"]) == ("ok", True)


@needs_root
@pytest.mark.parametrize("missing", ["setuid", "setgid", "sys_chroot"])
def test_chroot_without_a_capability_is_a_refusal_that_names_them(sandbox_home, missing):
    kept = [name for name in DOCKER_CAPABILITIES if name != missing]
    text = _refusal(*with_capabilities(kept), home=sandbox_home, tier="chroot")
    assert "SETUID, SETGID, SYS_CHROOT and KILL" in text


@needs_root
def test_chroot_without_the_capability_to_kill_still_ends_a_call(sandbox_home):
    kept = [name for name in DOCKER_CAPABILITIES if name != "kill"]
    prefix = with_capabilities(kept)
    child = run_child(_OPEN, str(sandbox_home), "chroot", prefix=prefix)
    assert child.answer.get("is_safe"), child


@needs_root
@pytest.mark.parametrize("tier", ["ns", "chroot"])
def test_a_kernel_without_seccomp_is_a_refusal(sandbox_home, tier):
    text = _refusal(*_under("no-seccomp"), home=sandbox_home, tier=tier)
    assert "seccomp" in text
    assert "it opened" not in text


@needs_root
def test_chroot_without_landlock_is_a_refusal_that_names_the_kernel(sandbox_home):
    text = _refusal(*_under("no-landlock"), home=sandbox_home, tier="chroot")
    assert "needs Landlock; use a kernel >= 5.13 booted with lsm=landlock" in text


@needs_root
def test_namespaces_hold_without_landlock(sandbox_home):
    child = run_child(_OPEN, str(sandbox_home), "ns", prefix=_under("no-landlock"))
    assert (child.answer["is_safe"], child.answer["landlock_abi"]) == (True, 0), child.stderr


@needs_root
def test_without_user_namespaces_root_falls_back_to_chroot(sandbox_home):
    child = run_child(_OPEN, str(sandbox_home), "auto", prefix=_under("no-namespaces"))
    assert (child.answer["tier"], child.answer["is_safe"]) == ("chroot", True), child.stderr


@needs_root
def test_namespaces_work_for_a_host_without_root_and_without_capabilities(interpreter, open_home):
    answer = _as_user(interpreter, open_home, "auto")
    assert (answer["tier"], answer["outcome"], answer["is_safe"]) == ("ns", "ok", True)
    assert answer["uid"] == _UNPRIVILEGED_UID


@needs_root
def test_chroot_is_refused_to_a_host_without_root(interpreter, open_home):
    answer = _as_user(interpreter, open_home, "chroot")
    assert "tier 'chroot' needs a host that runs as root" in str(answer["refused"])


@needs_root
def test_a_host_without_root_and_without_namespaces_is_refused(interpreter, open_home):
    answer = _as_user(interpreter, open_home, "auto", *_under("no-namespaces"))
    assert "allow unprivileged user namespaces" in str(answer["refused"])


async def test_a_probe_that_succeeds_refuses_to_open(sandbox_home, tier, monkeypatch):
    """The kernel cannot be made to let an attack through, so a harmless act stands for one."""
    genuine = probes_module.canary_probes

    def with_one_that_gets_through(limits):
        probe = probes_module.Probe(
            "read_its_own_folder",
            "import os\ndef run(): return os.getcwd()",
            frozenset({SandboxOutcome.VIOLATION}),
            "look at the sandbox",
        )
        return (*genuine(limits), probe)

    monkeypatch.setattr(probes_module, "canary_probes", with_one_that_gets_through)
    message = r"does not hold: probe 'read_its_own_folder' failed: ok: '/'; look at the sandbox"
    with pytest.raises(SandboxUnavailable, match=message):
        async with open_sandbox(home=sandbox_home, tier=tier):
            pytest.fail("the sandbox opened although an attack succeeded")


async def test_a_harmless_tool_that_does_not_work_refuses_to_open(sandbox_home, tier, monkeypatch):
    monkeypatch.setattr(probes_module, "_HARMLESS", "def run(a, b): raise OSError('broken')")
    with pytest.raises(SandboxUnavailable, match="a harmless tool does not work"):
        async with open_sandbox(home=sandbox_home, tier=tier):
            pytest.fail("the sandbox opened although a harmless tool fails")


async def test_an_unknown_processor_is_a_refusal(sandbox_home, monkeypatch):
    monkeypatch.setattr("services.toolenv.sandbox.host.machine", lambda: "riscv64")
    assert platform.machine() != "riscv64"
    with pytest.raises(SandboxUnavailable, match="no system call table for 'riscv64'"):
        async with open_sandbox(home=sandbox_home):
            pytest.fail("a sandbox opened without a table of system calls")

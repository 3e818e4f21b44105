"""Hosts that lack something: child processes with fewer rights, programs or system calls."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.docker.sandbox_image import sandbox_files
from services.toolenv.sandbox.rootfs import prepare_rootfs

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
_TIMEOUT_S = 100.0

# Capabilities that Docker gives a container by default, as moby's `DefaultCapabilities` lists them.
DOCKER_CAPABILITIES = (
    *("chown", "dac_override", "fsetid", "fowner", "mknod", "net_raw", "setgid", "setuid"),
    *("setfcap", "setpcap", "net_bind_service", "sys_chroot", "kill", "audit_write"),
)
COMPOSE_CAPABILITIES = ("setuid", "setgid", "sys_chroot", "kill")


@dataclass(frozen=True)
class Child:
    """What a child process said; `answer` is its last line as JSON, None if there is none."""

    returncode: int
    answer: object
    stderr: str


def with_capabilities(names: Sequence[str], *flags: str) -> list[str]:
    """A command prefix that keeps root but only these capabilities."""
    kept = ",".join(["-all", *(f"+{name}" for name in names)])
    return ["setpriv", *flags, f"--bounding-set={kept}", "--inh-caps=-all", "--"]


def without_program(name: str) -> list[str]:
    """A command prefix that hides a program in a private mount namespace."""
    found = shutil.which(name, path=ENVIRONMENT["PATH"])
    if found is None:
        return []
    script = 'mount --bind /dev/null "$0" && exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "--", "/bin/sh", "-c", script, found]


def run_child(
    script: str,
    *arguments: str,
    prefix: Sequence[str] = (),
    python: Sequence[str] = (sys.executable,),
    environment: dict[str, str] | None = None,
    timeout_s: float = _TIMEOUT_S,
) -> Child:
    """Run a Python script as a child and read its last line."""
    done = subprocess.run(
        [*prefix, *python, "-c", script, *arguments],
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)} | (environment or {}),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    answer = json.loads(lines[-1]) if lines else None
    return Child(done.returncode, answer, done.stderr)


async def run_child_aside(script: str, *arguments: str, **options: object) -> Child:
    """`run_child` without holding up the event loop."""
    return await asyncio.to_thread(run_child, script, *arguments, **options)  # type: ignore[arg-type]


@dataclass(frozen=True)
class OpenInterpreter:
    """An interpreter and the sandbox's package that every user can read."""

    python: tuple[str, ...]
    environment: dict[str, str]


def open_interpreter(sandbox_home: Path, folder: Path) -> OpenInterpreter:
    """Copy the sandbox's own interpreter, and what the host side imports, into an open folder."""
    prepared = prepare_rootfs(sandbox_home)
    for name in ("usr", "lib"):
        shutil.copytree(prepared.path / name, folder / "python" / name)
    code = folder / "code"
    code.mkdir()
    for target, origin in sandbox_files().items():
        (code / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(origin, code / target)
    subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True, timeout=60)
    environment = {
        "LD_LIBRARY_PATH": str(folder / "python/lib"),
        "PYTHONPATH": str(code),
    }
    python = str(folder / "python/usr/bin" / Path(prepared.python).name)
    return OpenInterpreter((python,), environment)

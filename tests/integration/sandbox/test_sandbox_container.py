"""The whole attack table inside a container: a real engine's, and one with the same rights."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.integration.sandbox.attacks.table import ATTACKS
from tests.integration.sandbox.children import (
    COMPOSE_CAPABILITIES,
    DOCKER_CAPABILITIES,
    ENVIRONMENT,
    ROOT,
    with_capabilities,
)

_TABLE_TIMEOUT_S = 110.0
_ENGINE_TIMEOUT_S = 300.0
_FILTER = str(Path(__file__).with_name("outer_filter.py"))


def _engine_is_reachable() -> bool:
    program = shutil.which("docker")
    if program is None:
        return False
    try:
        done = subprocess.run([program, "info"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _verdict(output: str, errors: str) -> dict[str, object]:
    """The JSON object that the attack run printed, below the log lines."""
    start = output.find("\n{\n") if not output.startswith("{") else 0
    assert start >= 0, errors[-2000:]
    verdict: dict[str, object] = json.loads(output[start:])
    return verdict


def _assert_all_stopped(verdict: dict[str, object]) -> None:
    assert verdict["failed"] == []
    assert (verdict["tier"], verdict["is_alive"]) == ("chroot", True)
    assert verdict["attacks"] == verdict["stopped"] == len(ATTACKS)


@pytest.mark.slow
@pytest.mark.timeout(_ENGINE_TIMEOUT_S + 10)
@pytest.mark.parametrize("options", ["default", "compose"])
@pytest.mark.skipif(
    not _engine_is_reachable(),
    reason="no container engine answers 'docker info': runs where one does (see DOCKER_HOST)",
)
def test_every_attack_is_stopped_in_a_container_of_a_real_engine(options):
    done = subprocess.run(
        [str(ROOT / "infra/docker/check_sandbox.sh"), options],
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=_ENGINE_TIMEOUT_S,
        check=False,
    )
    _assert_all_stopped(_verdict(done.stdout, done.stderr))
    assert done.returncode == 0


@pytest.mark.timeout(_TABLE_TIMEOUT_S + 10)
@pytest.mark.parametrize(
    ("capabilities", "flags"),
    [(DOCKER_CAPABILITIES, ()), (COMPOSE_CAPABILITIES, ("--no-new-privs",))],
    ids=["default", "compose"],
)
@pytest.mark.skipif(
    os.geteuid() != 0, reason="takes capabilities away from root: runs when the host is root"
)
def test_every_attack_is_stopped_with_the_rights_of_a_container(
    sandbox_home: Path, capabilities: Sequence[str], flags: Sequence[str]
):
    """Docker's capability set and what its seccomp profile refuses, without an engine."""
    confined = [sys.executable, _FILTER, "docker", *with_capabilities(capabilities, *flags)]
    done = subprocess.run(
        [
            *(*confined, sys.executable, "-m", "tests.integration.sandbox.attack_run"),
            *(str(sandbox_home), "auto"),
        ],
        env=ENVIRONMENT,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=_TABLE_TIMEOUT_S,
        check=False,
    )
    _assert_all_stopped(_verdict(done.stdout, done.stderr))

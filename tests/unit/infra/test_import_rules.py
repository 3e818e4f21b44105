"""The import rules are enforced: a planted violation is refused."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the packages and their rules."""
    for package in ("cli", "gateway", "infra", "services"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(checkout: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = {"PYTHONPATH": str(checkout), "PATH": "/usr/bin:/bin", "PYTHONUTF8": "1"}
    return subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=110
    )


def test_the_rules_hold_and_a_planted_violation_of_each_kind_is_refused(checkout: Path) -> None:
    clean = lint(checkout)
    assert clean.returncode == 0, clean.stdout[-2000:]

    planner = checkout / "services" / "planner" / "tree.py"
    planner.write_text("import services.toolenv.catalog\n" + planner.read_text(encoding="utf-8"))
    (checkout / "services" / "llm" / "utils.py").write_text('"""A module without a place."""\n')
    refused = lint(checkout)
    assert refused.returncode != 0
    assert "services.planner.tree -> services.toolenv.catalog" in refused.stdout
    assert "utils" in refused.stdout

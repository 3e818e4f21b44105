"""The planner's process: settings, wiring, help."""

import subprocess
import sys

import httpx
import pytest

from services.kit.settings import SharedSettings
from services.planner.app import build_app
from services.planner.bootstrap import options_of
from services.planner.settings import PlannerSettings

pytestmark = pytest.mark.anyio


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "services.planner", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", **environment},
        check=False,
    )


def test_help_names_the_options() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    assert "--port" in shown.stdout


def test_a_bad_setting_is_named() -> None:
    shown = run(PLANNER_MAX_RUNS="0")
    assert shown.returncode == 2
    assert "max_runs" in shown.stderr


def test_a_start_that_is_refused_says_why_in_one_line() -> None:
    shown = run("--port", "0", PLANNER_SEARCHES="/nowhere.py")
    assert (shown.returncode, "Traceback" in shown.stderr) == (1, False)
    assert shown.stderr.splitlines()[-1].startswith("error: search '/nowhere.py': it cannot be")


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANNER_LLM_URL", "http://llm:8000")
    monkeypatch.setenv("PLANNER_MAX_DEADLINE_S", "10")
    settings = PlannerSettings()
    assert settings.llm_url == "http://llm:8000"
    assert options_of(settings, SharedSettings()).max_deadline_s == 10


async def test_the_app_answers_its_health_paths() -> None:
    app = build_app(PlannerSettings(retriever_url=""), SharedSettings())
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app) as state,
        httpx.AsyncClient(transport=transport, base_url="http://planner") as http,
    ):
        assert state is not None
        assert (await http.get("/healthz")).status_code == 200

"""The tool environment on the real sandbox: bundled tools, hostile tools, a sandbox that dies."""

import asyncio
import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.tools import app
from services.contracts.apis import ApiRef
from services.contracts.errors import Unavailable
from services.contracts.ids import RunId
from services.contracts.llm import Message
from services.contracts.planner import SolveRequest, ToolFinished
from services.contracts.toolenv import CallStatus, Observation, ToolCall, Trial
from services.kit.settings import SharedSettings
from services.planner.journal.shelf import Shelf
from services.planner.service import PlannerService
from services.toolenv.admission import Admission
from services.toolenv.bootstrap import open_toolenv, sandbox_status
from services.toolenv.catalog import load_catalogue
from services.toolenv.chain import Chain
from services.toolenv.executors.custom import CustomExecutor
from services.toolenv.registry import Registry
from services.toolenv.sandbox import open_sandbox
from services.toolenv.service import ToolEnvService
from services.toolenv.settings import ToolEnvSettings
from tests.fakes.planner_ports import ScriptedModel, end_of, events_of

pytestmark = pytest.mark.anyio

REPOSITORY = Path(__file__).parents[2]
BUNDLED = REPOSITORY / "data" / "toolenv" / "tools"
CALL_TIMEOUT_S = 2.0

HOSTILE = """
import os, socket, sys

def read_passwd():
    with open("/etc/passwd") as stream:
        return stream.read()

def open_socket():
    return str(socket.socket())

def fork_away():
    return os.fork()

def loop_for_ever():
    while True:
        pass

def print_gigabyte():
    for _ in range(1 << 20):
        sys.stdout.write("0123456789abcdef" * 64)
    return "done"

def eat_memory():
    return len(bytearray(1 << 30))

def crash():
    os._exit(7)

def return_much():
    return "x" * (8 << 20)

def fine(text="here"):
    return text
"""
NAMES = [line[4 : line.index("(")] for line in HOSTILE.splitlines() if line.startswith("def ")]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toolenv_home")


@pytest.fixture(scope="module")
def hostile_tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile_tools")
    (root / "Customized" / "hostile").mkdir(parents=True)
    apis = [
        {"name": name, "optional_parameters": [{"name": "text"}] if name == "fine" else []}
        for name in NAMES
    ]
    document = {"tool_name": "hostile", "api_list": apis}
    (root / "Customized" / "hostile.json").write_text(json.dumps(document), encoding="utf-8")
    (root / "Customized" / "hostile" / "api.py").write_text(HOSTILE, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
async def env(home: Path, hostile_tools: Path) -> AsyncIterator[ToolEnvService]:
    settings = ToolEnvSettings(tools_roots=(BUNDLED, hostile_tools), call_timeout_s=CALL_TIMEOUT_S)
    async with open_toolenv(settings, SharedSettings(toolwright_home=home)) as service:
        yield service


async def call(env: ToolEnvService, ref: str, **arguments: Any) -> Observation:
    text = json.dumps(arguments)
    return await env.invoke(ToolCall(api=ApiRef.parse(ref), arguments_text=text))


def response(observation: Observation) -> Any:
    assert observation.status is CallStatus.OK, observation.content
    return json.loads(observation.content)["response"]


async def attack(env: ToolEnvService, name: str) -> Observation:
    return await call(env, f"Customized/hostile/{name}")


def processes_below(pid: int) -> set[int]:
    """Process ids of all descendants of `pid`."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it ended while the folder was read
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        new = children.get(waiting.pop(), [])
        found.update(new)
        waiting += new
    return found


async def test_bundled_tools_compute_right_answers_in_the_sandbox(env: ToolEnvService) -> None:
    rate = 6 / 1200
    payment = 200_000 * rate / (1 - (1 + rate) ** -360)
    loan = await call(
        env, "Finance/loan_calculator/monthly_payment", principal=200_000, annual_rate=6, years=30
    )
    assert response(loan)["monthly_payment"] == pytest.approx(payment, abs=0.01)
    miles = await call(
        env,
        "Measurement/unit_converter/convert_length",
        value=10,
        from_unit="miles",
        to_unit="km",
    )
    assert response(miles)["result"] == pytest.approx(16.09344, abs=1e-3)
    water = await call(env, "Chemistry/molar_mass/molar_mass", formula="H2O")
    assert response(water)["molar_mass"] == pytest.approx(2 * 1.008 + 15.999, abs=0.01)
    leap = await call(env, "Time/calendar_tools/day_of_week", date="2024-02-29")
    assert response(leap)["day"] == "Thursday"
    digest = await call(env, "Text/encoder/crc32", text="hello")
    assert response(digest)["crc32"] == "3610a686"
    clock = await call(env, "Time/world_clock/city_utc_offset", city="Tokyo", date="2024-01-15")
    assert response(clock)["hours"] == 9
    distance = await call(
        env,
        "Geography/city_atlas/distance_between_cities",
        first_city="Paris",
        second_city="Berlin",
    )
    angle = math.acos(
        math.sin(math.radians(48.857)) * math.sin(math.radians(52.52))
        + math.cos(math.radians(48.857))
        * math.cos(math.radians(52.52))
        * math.cos(math.radians(13.405 - 2.352))
    )
    assert response(distance)["distance"] == pytest.approx(6371 * angle, rel=0.01)


async def test_code_is_tried_inside_the_same_walls(env: ToolEnvService) -> None:
    source = (
        "import socket, urllib.request\n"
        "def add(a, b):\n    return a + b\n"
        "def dial():\n    return urllib.request.urlopen('https://example.org').read().decode()\n"
    )
    added = await env.try_code(Trial(source=source, function="add", arguments={"a": 1, "b": 2}))
    assert response(added) == 3
    assert (await env.try_code(Trial(source=source, function="dial"))).status is not CallStatus.OK


TOOL = '''```python
import socket


def fahrenheit(celsius: float) -> float:
    """Convert a temperature from degrees Celsius to Fahrenheit.

    Args:
        celsius: temperature
    """
    return celsius * 9 / 5 + 32
```'''
HOSTILE_MAIN = "```\ndef main():\n    return open('/etc/shadow').read() + socket.gethostname()\n```"
GOOD_MAIN = "```\ndef main():\n    return fahrenheit(100)\n```"
TESTS = """```
def test_freezing():
    assert fahrenheit(0) == 32

def test_wrong():
    assert fahrenheit(0) == 0
```"""


async def test_a_model_makes_a_tool_in_the_sandbox_and_the_user_adopts_it(
    env: ToolEnvService, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CREATOR end to end: a hostile program fails, its correction works, the tool is added."""
    texts = [TOOL, HOSTILE_MAIN, GOOD_MAIN, "212", TESTS]
    model = ScriptedModel([Message(role="assistant", content=text) for text in texts])
    planner = PlannerService(model=model, toolenv=env, retriever=None, shelf=Shelf(home / "runs"))
    ref = ApiRef.parse("Customized/hostile/fine")
    events = await events_of(
        planner,
        SolveRequest(
            instruction="boil\x1b[2J", method="CREATOR", apis=(ref,), run_id=RunId("made")
        ),
    )
    first, second, *_ = (event for event in events if isinstance(event, ToolFinished))
    assert first.status is CallStatus.SANDBOX_VIOLATION
    assert json.loads(second.observation)["response"] == 212.0
    assert end_of(events).proposal.failed_tests == 1

    monkeypatch.setenv("TOOLWRIGHT_HOME", str(home))
    monkeypatch.setenv("TOOLWRIGHT_URL", "http://127.0.0.1:9")

    def typed(*words: str) -> str:
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    shown = await asyncio.to_thread(typed, "adopt", "made", "--dry-run")
    assert "made for: boil\\x1b[2J" in shown
    assert "passed: test_freezing" in shown
    assert "test_wrong" not in shown
    assert not (home / "tools" / "Customized").exists()
    added = await asyncio.to_thread(typed, "adopt", "made", "--category", "Measurement")
    assert "added Measurement/fahrenheit with 1 APIs" in added
    tested = await asyncio.to_thread(typed, "test", "Measurement/fahrenheit")
    assert tested == "passed: test_freezing\n"


async def test_a_closed_service_and_a_missing_entry_are_tool_errors(env: ToolEnvService) -> None:
    closed = await call(
        env, "Finance/fx_live/live_convert", amount=1, from_currency="EUR", to_currency="USD"
    )
    assert closed.status is CallStatus.TOOL_ERROR
    assert "service closed" in closed.content
    missing = await call(env, "Geography/city_atlas/city_population", city="Atlantis")
    assert missing.status is CallStatus.TOOL_ERROR
    assert "Atlantis" in missing.content


async def test_a_wrong_parameter_name_lists_the_right_ones(env: ToolEnvService) -> None:
    observation = await call(env, "Chemistry/molar_mass/molar_mass", molecule="H2O")
    assert observation.status is CallStatus.INVALID_ARGUMENTS
    assert "accepts formula" in observation.content


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("read_passwd", CallStatus.SANDBOX_VIOLATION),
        ("open_socket", CallStatus.SANDBOX_VIOLATION),
        ("fork_away", CallStatus.SANDBOX_VIOLATION),
        ("loop_for_ever", CallStatus.TIMEOUT),
        ("print_gigabyte", CallStatus.OUTPUT_LIMIT),
        ("eat_memory", CallStatus.RESOURCE_LIMIT),
        ("crash", CallStatus.RESOURCE_LIMIT),
        ("return_much", CallStatus.OUTPUT_LIMIT),
    ],
)
async def test_a_hostile_tool_gets_its_status_and_the_next_call_is_right(
    env: ToolEnvService, name: str, status: CallStatus
) -> None:
    before = processes_below(os.getpid())
    started = time.perf_counter()
    observation = await attack(env, name)
    assert time.perf_counter() - started < CALL_TIMEOUT_S + 2
    assert observation.status is status, observation.content[:300]
    assert json.loads(observation.content)["error"]
    assert response(await attack(env, "fine")) == "here"
    await asyncio.sleep(1.0)
    assert len(processes_below(os.getpid())) <= len(before)  # no worker outlived its call
    await env.check_ready()


async def test_the_output_limit_keeps_the_first_64_kilobytes_and_the_host_does_not_grow(
    env: ToolEnvService,
) -> None:
    await attack(env, "print_gigabyte")
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    observation = await attack(env, "print_gigabyte")
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    kept = json.loads(observation.content)["response"]
    assert kept == ("0123456789abcdef" * 4096)
    assert grown_kb < 10 * 1024


async def test_many_calls_at_once_get_their_own_answers(env: ToolEnvService) -> None:
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(call(env, "Customized/hostile/fine", text=f"number {number}"))
            for number in range(50)
        ]
    assert [response(task.result()) for task in tasks] == [f"number {n}" for n in range(50)]


async def test_a_killed_sandbox_is_not_ready_until_it_is_back(home: Path) -> None:
    async with open_sandbox(home=home / "sandbox", probes=False) as sandbox:
        env = ToolEnvService(
            registry=Registry.fixed(load_catalogue([BUNDLED])),
            chain=Chain([CustomExecutor(sandbox)]),
            admission=Admission(max_running=4, max_waiting=4),
            sandbox_status=lambda: sandbox_status(sandbox),
        )
        await env.check_ready()
        os.kill(sandbox.zygote_pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            await not_ready(env)
            await ready_again(env)
        leap = await call(env, "Time/calendar_tools/is_leap_year", year=2024)
        assert leap.status is CallStatus.OK


async def not_ready(env: ToolEnvService) -> None:
    with pytest.raises(Unavailable, match="sandbox died"):
        while True:
            await env.check_ready()
            await asyncio.sleep(0.001)


async def ready_again(env: ToolEnvService) -> None:
    while True:
        try:
            return await env.check_ready()
        except Unavailable:
            await asyncio.sleep(0.02)


async def test_the_process_refuses_to_start_without_a_sandbox_and_says_why(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "services.toolenv", "--port", "0"),
        cwd=REPOSITORY,
        env={
            "PATH": str(tmp_path),  # no bubblewrap here
            "TOOLENV_SANDBOX_TIER": "ns",
            "TOOLWRIGHT_HOME": str(tmp_path / "home"),
        },
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        _, stderr = await process.communicate()
    assert process.returncode not in {0, None}
    assert b"the sandbox refuses to start" in stderr


async def test_help_needs_no_sandbox() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.toolenv",
        "--help",
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        stdout, _ = await process.communicate()
    assert (process.returncode, b"--port" in stdout) == (0, True)

"""The commands and health checks of docker-compose.yml, run against the real applications."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.docker import health
from infra.docker.build_index import build_index
from services.contracts.errors import Unavailable
from services.contracts.llm import (
    ChatRequest,
    Completion,
    CompletionDelta,
    Message,
    ModelInfo,
)
from services.evaluator.app import build_app as build_evaluator
from services.evaluator.settings import EvaluatorSettings
from services.kit.settings import SharedSettings
from services.llm.app import build_app as build_llm
from services.llm.service import LlmService
from services.llm.settings import LlmSettings
from services.planner.app import build_app as build_planner
from services.planner.settings import PlannerSettings
from services.retriever.app import build_app as build_retriever
from services.retriever.corpus import TextTemplate
from services.retriever.fusion import Fusion
from services.retriever.index.edge import EdgeStore
from services.retriever.service import RetrieverService
from services.retriever.settings import RetrieverSettings
from services.toolenv.admission import Admission
from services.toolenv.app import build_app as build_toolenv
from services.toolenv.catalog import Catalogue
from services.toolenv.chain import Chain
from services.toolenv.executors.custom import CustomExecutor
from services.toolenv.registry import Registry
from services.toolenv.service import ToolEnvService
from services.toolenv.settings import ToolEnvSettings
from services.toolenv.status import SandboxStatus
from tests.fakes.embedder import FakeEmbedder
from tests.fakes.gateway import gateway_app
from tests.fakes.loopback import serve
from tests.fakes.planner import FakePlanner
from tests.fakes.tool_sandbox import FakeSandbox, make_entry
from tests.integration import compose_stack as stack

SERVICES = stack.read_compose()
STAGES = stack.read_stages()
OURS = sorted(stack.SETTINGS)
SERVERS = sorted(set(OURS) - {"index", "worker"})
_HEALTHY_S = 100.0  # the sandbox copies an interpreter and attacks itself before it is ready
_START_S = 60.0  # a loaded machine imports FastAPI in seconds


def local(command: list[str]) -> list[str]:
    """The container's command with this interpreter."""
    programs = {"python": [sys.executable], "celery": [sys.executable, "-m", "celery"]}
    return [*programs[command[0]], *command[1:]]


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


@pytest.mark.parametrize("name", OURS)
def test_every_command_answers_help(name: str) -> None:
    command = [*local(stack.command_of(name, SERVICES, STAGES)), "--help"]
    done = subprocess.run(
        command, cwd=stack.ROOT, capture_output=True, text=True, timeout=_START_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage" in done.stdout.lower()


@pytest.mark.parametrize("name", SERVERS)
def test_the_health_check_asks_the_port_that_the_command_opens(name: str) -> None:
    command = stack.command_of(name, SERVICES, STAGES)
    check = SERVICES[name]["healthcheck"]["test"]
    assert check[:4] == ["CMD", "python", "-m", "infra.docker.health"]
    assert option(check, "--port") == option(command, "--port")
    assert option(command, "--host") == "0.0.0.0"


def test_the_worker_is_asked_by_its_own_application() -> None:
    check = SERVICES["worker"]["healthcheck"]["test"][1]
    command = stack.command_of("worker", SERVICES, STAGES)
    assert check.startswith(f"celery --app {option(command, '--app')} inspect ping ")


class Opened:
    """A real app around an already open service, in place of its lifespan."""

    def __init__(self, app: ASGIApp, service: object) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        serve_ = self._lifespan if scope["type"] == "lifespan" else self._app
        await serve_({**scope, "state": {"service": self._service}}, receive, send)

    @staticmethod
    async def _lifespan(_: Scope, receive: Receive, send: Send) -> None:
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})


class CannedEngine:
    """An `Engine` that always says the same."""

    info = ModelInfo(model="canned", engine="transformers", dialect="openai")

    async def describe(self) -> ModelInfo:
        return self.info

    async def check_ready(self) -> None:
        return

    async def complete(self, request: ChatRequest) -> Completion:
        return Completion(message=Message(role="assistant", content="yes"))

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionDelta]:
        yield CompletionDelta(text="yes", completion=await self.complete(request))


def tool_service(*, is_alive: bool = True) -> ToolEnvService:
    status = SandboxStatus(tier="chroot", is_alive=is_alive, landlock_abi=4, probes=())
    return ToolEnvService(
        registry=Registry.fixed(
            Catalogue([make_entry(), make_entry("Customized/echo_tool/shout")])
        ),
        chain=Chain([CustomExecutor(FakeSandbox(), call_timeout_s=5)]),
        admission=Admission(max_running=1, max_waiting=0),
        sandbox_status=lambda: status,
    )


def retriever_service(home: Path) -> RetrieverService:
    return RetrieverService(
        embedder=FakeEmbedder(),
        store=EdgeStore(home),
        template=TextTemplate.TOOLBENCH,
        fusion=Fusion(k=5, sparse_weight=0.6),
        candidates=100,
        batch_size=4,
    )


def gateway(_: Path) -> ASGIApp:
    return gateway_app(FakePlanner())


def planner(_: Path) -> FastAPI:
    return build_planner(PlannerSettings(), SharedSettings())


def evaluator(home: Path) -> FastAPI:
    return build_evaluator(EvaluatorSettings(), SharedSettings(toolwright_home=home))


def toolenv(home: Path, *, is_alive: bool = True) -> ASGIApp:
    app = build_toolenv(ToolEnvSettings(), SharedSettings(toolwright_home=home))
    return Opened(app, tool_service(is_alive=is_alive))


def retriever(home: Path) -> ASGIApp:
    app = build_retriever(RetrieverSettings(), SharedSettings(toolwright_home=home))
    return Opened(app, retriever_service(home))


def llm(home: Path) -> ASGIApp:
    app = build_llm(LlmSettings(), SharedSettings(toolwright_home=home))
    return Opened(app, LlmService(engine=CannedEngine(), max_inside=4))


APPS: dict[str, Callable[[Path], ASGIApp]] = {
    "evaluator": evaluator,
    "gateway": gateway,
    "llm": llm,
    "planner": planner,
    "retriever": retriever,
    "toolenv": toolenv,
}


def test_every_server_has_an_app_here() -> None:
    assert sorted(APPS) == SERVERS


@pytest.mark.anyio
@pytest.mark.parametrize("name", SERVERS)
async def test_the_health_path_answers_200_from_the_app(name: str, tmp_path: Path) -> None:
    path = option(SERVICES[name]["healthcheck"]["test"], "--path")
    async with serve(APPS[name](tmp_path)) as url:
        assert await asyncio.to_thread(health.check, f"{url}{path}", timeout_s=10) is None


@pytest.mark.anyio
async def test_a_dead_sandbox_makes_its_container_unhealthy(tmp_path: Path) -> None:
    async with serve(toolenv(tmp_path, is_alive=False)) as url:
        problem = await asyncio.to_thread(health.check, f"{url}/readyz", timeout_s=10)
    assert problem is not None
    assert "503" in problem


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def contained_environment(name: str, home: Path) -> dict[str, str]:
    """The container's variables, with this machine's interpreter and folders."""
    given = stack.environment_of(name, SERVICES, STAGES)
    here = {
        "PATH": os.environ["PATH"],
        "TOOLWRIGHT_HOME": str(home),
        "TOOLENV_TOOLS_ROOTS": str(stack.ROOT / "data" / "toolenv" / "tools"),
        "TOOLENV_CREDENTIALS_KEY_FILE": os.devnull,  # the secret's default
    }
    return {key: value for key, value in (given | here).items() if value is not None}


@contextmanager
def running(name: str, home: Path, *, before: tuple[str, ...] = ()) -> Iterator[Callable[[], int]]:
    """The container's command on a free port of loopback; yields its health check."""
    port = str(free_port())
    places = {"0.0.0.0": "127.0.0.1", "8000": port}
    command = [places.get(part, part) for part in stack.command_of(name, SERVICES, STAGES)]
    check = [places.get(part, part) for part in SERVICES[name]["healthcheck"]["test"][1:]]
    environment = contained_environment(name, home)
    process = subprocess.Popen([*before, *local(command)], cwd=stack.ROOT, env=environment)
    try:
        yield (
            lambda: (
                subprocess.run(
                    local(check), cwd=stack.ROOT, env=environment, timeout=_START_S, check=False
                ).returncode
            )
        )
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=20)


def becomes_healthy(check: Callable[[], int]) -> bool:
    deadline = time.monotonic() + _HEALTHY_S
    while time.monotonic() < deadline:
        if check() == 0:
            return True
        time.sleep(0.5)
    return False


def test_the_planner_s_command_passes_its_own_health_check(tmp_path: Path) -> None:
    with running("planner", tmp_path) as check:
        assert becomes_healthy(check)


def chroot_prefix() -> tuple[str, ...]:
    """Become what compose makes of the tool environment: its capabilities, and no new ones."""
    granted = [f"+{name.lower()}" for name in SERVICES["toolenv"]["cap_add"]]
    bounds = ",".join(["-all", *granted])
    return ("setpriv", "--no-new-privs", f"--bounding-set={bounds}", f"--inh-caps={bounds}")


needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="runs as root with setpriv (util-linux): it lowers root to the container's capabilities",
)


@needs_root
def test_the_prefix_leaves_root_the_granted_capabilities_only() -> None:
    read = [*chroot_prefix(), "grep", "-E", "CapEff|CapBnd|NoNewPrivs", "/proc/self/status"]
    done = subprocess.run(read, capture_output=True, text=True, timeout=30, check=True)
    granted = f"{1 << 5 | 1 << 6 | 1 << 7 | 1 << 18:016x}"  # KILL, SETGID, SETUID, SYS_CHROOT
    assert done.stdout.split() == ["CapEff:", granted, "CapBnd:", granted, "NoNewPrivs:", "1"]


@needs_root
def test_the_sandbox_starts_with_exactly_the_capabilities_of_its_container(tmp_path: Path) -> None:
    with running("toolenv", tmp_path, before=chroot_prefix()) as check:
        assert becomes_healthy(check)


@needs_root
def test_the_egress_broker_starts_with_exactly_those_capabilities(tmp_path: Path) -> None:
    code = "from cli.doctor_tools import egress_broker as check; print(check())"
    done = subprocess.run(
        [*chroot_prefix(), sys.executable, "-c", code],
        cwd=stack.ROOT,
        env=contained_environment("toolenv", tmp_path),
        capture_output=True,
        text=True,
        timeout=_HEALTHY_S,
        check=False,
    )
    assert "is_ok=True" in done.stdout, done.stdout + done.stderr


@pytest.mark.anyio
async def test_the_one_shot_container_indexes_the_whole_catalogue(tmp_path: Path) -> None:
    async with serve(toolenv(tmp_path)) as tools, serve(retriever(tmp_path)) as index:
        first = await build_index(toolenv_url=tools, retriever_url=index)
        second = await build_index(toolenv_url=tools, retriever_url=index)
    assert (first.n_documents, first.rebuilt) == (2, True)
    assert (second.version, second.rebuilt) == (first.version, False)


@pytest.mark.anyio
async def test_an_index_that_cannot_be_built_is_an_error(tmp_path: Path) -> None:
    async with serve(toolenv(tmp_path)) as tools:
        with pytest.raises(Unavailable):
            await build_index(toolenv_url=tools, retriever_url=f"http://127.0.0.1:{free_port()}")

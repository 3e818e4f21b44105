"""Real sandboxes, one per tier, shared by all tests of this folder."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from services.toolenv.sandbox import Sandbox, SandboxResult, open_sandbox
from tests.integration.sandbox.processes import POOL_SIZE

TIERS = [
    "ns",
    pytest.param(
        "chroot",
        marks=pytest.mark.skipif(
            os.geteuid() != 0, reason="tier chroot: runs when the host is root"
        ),
    ),
]
RunTool = Callable[..., Awaitable[SandboxResult]]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def sandbox_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home below a 0700 folder, which the sandbox's uid cannot traverse."""
    home = tmp_path_factory.mktemp("sandbox")
    home.parent.chmod(0o700)
    return home


@pytest.fixture(scope="session", params=TIERS)
def tier(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
async def sandbox(tier: str, sandbox_home: Path, anyio_backend: str) -> AsyncIterator[Sandbox]:
    async with open_sandbox(
        home=sandbox_home, tier=tier, pool_size=POOL_SIZE, probes=False
    ) as opened:
        yield opened


@pytest.fixture
def run_tool(sandbox: Sandbox) -> RunTool:
    """Calls `run` of a source, with a deadline that a busy machine keeps."""

    async def call(source: str, *, deadline_s: float = 25.0, **arguments: object) -> SandboxResult:
        return await sandbox.call(
            source=source, function="run", arguments=arguments, deadline_s=deadline_s
        )

    return call


@pytest.fixture
def run_in() -> Callable[..., Awaitable[object]]:
    """The value of `run()` of a source in a given sandbox."""

    async def call(sandbox: Sandbox, source: str) -> object:
        result = await sandbox.call(source=source, function="run", arguments={}, deadline_s=25.0)
        return result.value

    return call

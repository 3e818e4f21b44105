"""`toolwright doctor`: checks everything that a run needs and says how to mend what is missing."""

import asyncio
import importlib.util
import platform
import shutil
from collections.abc import Callable
from typing import NamedTuple

import typer
from pydantic import ValidationError
from rich.console import Console

from cli.session import CliSettings, explain, gateway_answers
from services.contracts.errors import ServiceError
from services.kit.logging import configure_logging
from services.kit.settings import SharedSettings

_PACKAGES = ("torch", "transformers", "sentence_transformers", "qdrant_edge", "celery", "fastapi")


class Finding(NamedTuple):
    """Outcome of one check."""

    name: str
    is_ok: bool
    detail: str


def doctor() -> None:
    """Check platform, packages, Redis, model, sandbox and index; exit status 0 when all work."""
    configure_logging("ERROR")
    console = Console(highlight=False)
    is_healthy = True
    for check in (_platform, _packages, _redis, _model, _sandbox, _index):
        finding = _guarded(check)
        is_healthy &= finding.is_ok
        mark = "[green]ok  [/]" if finding.is_ok else "[red]FAIL[/]"
        console.print(f"{mark} {finding.name}: {finding.detail}")
    console.print(f"     gateway: {CliSettings().url}; home: {SharedSettings().toolwright_home}")
    raise typer.Exit(0 if is_healthy else 1)


def _guarded(check: Callable[[], Finding]) -> Finding:
    name = check.__name__.strip("_")
    try:
        return check()
    except ServiceError as exc:
        return Finding(name, False, exc.detail)
    except ValidationError as exc:
        return Finding(name, False, explain(exc))
    except OSError as exc:
        return Finding(name, False, str(exc))


def _platform() -> Finding:
    is_supported = platform.system() == "Linux" and platform.machine() == "x86_64"
    detail = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    mend = "" if is_supported else "; the sandbox needs Linux x86-64: use docker compose up"
    return Finding("platform", is_supported, detail + mend)


def _packages() -> Finding:
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    detail = f"missing {', '.join(missing)}; run `make setup`" if missing else "all installed"
    return Finding("packages", not missing, detail)


def _redis() -> Finding:
    from infra.embedded.processes import find_redis_server

    return Finding("redis", True, find_redis_server())


def _model() -> Finding:
    from infra.embedded.assets import local_model

    shared = SharedSettings()
    if shared.llm_base_url is not None:
        return Finding("model", True, f"{shared.llm_model} at {shared.llm_base_url}")
    return Finding("model", True, f"{local_model().name}, a local model in this process")


def _sandbox() -> Finding:
    return asyncio.run(_open_sandbox())


async def _open_sandbox() -> Finding:
    from infra.embedded.assets import bundled_tools
    from services.toolenv.bootstrap import open_toolenv
    from services.toolenv.settings import ToolEnvSettings

    bubblewrap = shutil.which("bwrap") or "no bubblewrap"
    settings = ToolEnvSettings(tools_roots=(bundled_tools(),))
    async with open_toolenv(settings, SharedSettings()) as toolenv:
        status = toolenv.sandbox_status()
        passed = sum(probe.is_passed for probe in status.probes)
        detail = f"tier {status.tier}, Landlock ABI {status.landlock_abi}, {bubblewrap}, "
        return Finding(
            "sandbox",
            status.is_alive and passed == len(status.probes),
            detail + f"{passed} of {len(status.probes)} canary attacks stopped",
        )


def _index() -> Finding:
    return asyncio.run(_open_index())


async def _open_index() -> Finding:
    from services.retriever.bootstrap import open_retriever
    from services.retriever.settings import RetrieverSettings

    if await gateway_answers(CliSettings().url):
        return Finding("index", True, f"in use by the system at {CliSettings().url}")
    async with open_retriever(RetrieverSettings(), SharedSettings()) as retriever:
        status = await retriever.status()
    if status is None:
        return Finding("index", True, "none yet; the first start builds it")
    return Finding("index", True, f"{status.n_documents} documents, version {status.version}")

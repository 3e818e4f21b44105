"""`toolwright doctor`: checks everything that a run needs and says how to mend what is missing."""

import asyncio
import importlib.util
import platform
from collections.abc import Callable

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from cli import doctor_tools
from cli.finding import Finding
from cli.session import CliSettings, explain, gateway_answers
from services.contracts.errors import ServiceError
from services.kit.logging import configure_logging
from services.kit.settings import SharedSettings

_PACKAGES = ("torch", "transformers", "sentence_transformers", "qdrant_edge", "celery", "fastapi")


def doctor() -> None:
    """Check everything that a run needs, from platform to tools; exit status 0 when all works."""
    configure_logging("ERROR")
    console = Console(highlight=False)
    is_healthy = True
    for check in _CHECKS:
        finding = _guarded(check)
        is_healthy &= finding.is_ok
        mark = "[green]ok  [/]" if finding.is_ok else "[red]FAIL[/]"
        console.print(mark, escape(f"{finding.name}: {finding.detail}"), soft_wrap=True)
    console.print(f"     gateway: {CliSettings().url}; home: {SharedSettings().toolwright_home}")
    raise typer.Exit(0 if is_healthy else 1)


def _guarded(check: Callable[[], Finding]) -> Finding:
    name = check.__name__.strip("_").replace("_", " ")
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


_CHECKS: tuple[Callable[[], Finding], ...] = (
    _platform,
    _packages,
    _redis,
    _model,
    doctor_tools.sandbox,
    doctor_tools.egress_broker,
    doctor_tools.recordings,
    doctor_tools.snapshots,
    doctor_tools.credentials,
    doctor_tools.user_tools,
    doctor_tools.mcp_jail,
    doctor_tools.live_calls,
    _index,
)

"""Builds the language-model service; the one place that chooses an engine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from services.contracts.errors import FailedPrecondition
from services.kit.settings import SharedSettings
from services.llm.dialects.toolllama import ToolLlamaDialect
from services.llm.engines.base import Engine
from services.llm.engines.openai_compatible import OpenAICompatibleEngine
from services.llm.service import LlmService
from services.llm.settings import LlmSettings


@asynccontextmanager
async def open_llm(settings: LlmSettings, shared: SharedSettings) -> AsyncIterator[LlmService]:
    """A service over a server or a local model, closed at the end of the context.

    Raises:
        FailedPrecondition: A setting that the engine needs is missing, or the model folder is
            unusable.
    """
    uses_server = settings.engine == "openai" or (
        settings.engine == "auto" and shared.llm_base_url is not None
    )
    opened = _open_server(settings, shared) if uses_server else _open_local(settings)
    in_work = settings.connections if uses_server else settings.batch
    async with opened as engine:
        yield LlmService(engine=engine, max_inside=in_work + settings.max_queue)


@asynccontextmanager
async def _open_server(settings: LlmSettings, shared: SharedSettings) -> AsyncIterator[Engine]:
    if not shared.llm_base_url or not shared.llm_model:
        raise FailedPrecondition(
            f"the openai engine needs LLM_BASE_URL and LLM_MODEL (now {shared.llm_base_url!r} and "
            f"{shared.llm_model!r}), for example http://127.0.0.1:8000/v1 and the name it serves"
        )
    limits = httpx.Limits(
        max_connections=settings.connections, max_keepalive_connections=settings.connections
    )
    # A proxy of the environment is for servers outside; it cannot reach this machine's loopback.
    is_local = httpx.URL(shared.llm_base_url).host in ("127.0.0.1", "::1", "localhost")
    async with httpx.AsyncClient(limits=limits, trust_env=not is_local) as http:
        yield OpenAICompatibleEngine(
            http=http,
            base_url=shared.llm_base_url,
            model=shared.llm_model,
            api_key=shared.llm_api_key.get_secret_value() if shared.llm_api_key else None,
            dialect=_dialect(settings),
            timeout_s=settings.request_timeout_s,
            context_tokens=settings.context_tokens,
            follows_instructions=settings.follows_instructions,
        )


def _dialect(settings: LlmSettings) -> ToolLlamaDialect | None:
    if settings.dialect != "toolllama":
        return None
    return ToolLlamaDialect(
        history=settings.toolllama_history,
        reference_parser=settings.toolllama_reference_parser,
    )


@asynccontextmanager
async def _open_local(settings: LlmSettings) -> AsyncIterator[Engine]:
    try:
        # Here, so that a service over a server runs without torch.
        from services.llm.engines.transformers import TransformersEngine
    except ImportError as exc:
        raise FailedPrecondition(
            f"the transformers engine needs a package that is missing ({exc.name}); install "
            "toolwright[llm], or set LLM_BASE_URL and LLM_MODEL to use a server"
        ) from exc
    engine = await asyncio.to_thread(
        TransformersEngine,
        model_path=settings.model_path,
        constrain=settings.constrain,
        batch=settings.batch,
        max_queue=settings.max_queue,
        threads=settings.threads,
        timeout_s=settings.request_timeout_s,
        context_tokens=settings.context_tokens,
        follows_instructions=settings.follows_instructions,
    )
    try:
        yield engine
    finally:
        await asyncio.to_thread(engine.close)

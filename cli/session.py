"""Connects a command to a system: the running gateway, or an embedded one of its own."""

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from services.contracts.clients.http import decode_error
from services.contracts.errors import DeadlineExceeded, InvalidArgument, Unavailable
from services.kit.logging import configure_logging
from services.kit.settings import ServiceSettings

_PROBE_TIMEOUT_S = 2.0
_SILENCE_S = 600.0  # the longest pause within a stream: one model call
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class CliSettings(ServiceSettings):
    """Settings of the command line, prefix `TOOLWRIGHT_`."""

    model_config = SettingsConfigDict(env_prefix="TOOLWRIGHT_", frozen=True, extra="ignore")

    url: str = "http://127.0.0.1:5000"
    """Gateway that commands talk to when it answers."""


@asynccontextmanager
async def connect() -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running gateway, else of an embedded system started for this command.

    Raises:
        InvalidArgument: `TOOLWRIGHT_URL` is no URL.
        Unavailable: The connection broke within the block.
        DeadlineExceeded: The gateway fell silent within the block.
    """
    try:
        async with _connected() as client:
            yield client
    except httpx.TimeoutException as exc:
        raise DeadlineExceeded(f"the gateway was silent for {_SILENCE_S:.0f} s") from exc
    except httpx.TransportError as exc:
        raise Unavailable(f"the gateway broke off: {type(exc).__name__}: {exc}") from exc


@asynccontextmanager
async def _connected() -> AsyncIterator[httpx.AsyncClient]:
    url = CliSettings().url
    if await gateway_answers(url):
        async with _client(url, timeout_s=_SILENCE_S) as client:
            yield client
        return
    configure_logging("WARNING")  # the command's own output is what its user came for
    began = time.monotonic()
    # Heavy packages are imported only by a command that hosts the system itself.
    from infra.embedded.host import serve_temporarily

    async with serve_temporarily() as socket:
        print(f"Toolwright is ready after {time.monotonic() - began:.1f} s", file=sys.stderr)
        transport = httpx.AsyncHTTPTransport(uds=str(socket))
        async with httpx.AsyncClient(
            base_url="http://embedded", transport=transport, timeout=_SILENCE_S
        ) as client:
            yield client


def _client(url: str, *, timeout_s: float) -> httpx.AsyncClient:
    try:
        host = httpx.URL(url).host
    except httpx.InvalidURL as exc:
        raise InvalidArgument(f"TOOLWRIGHT_URL={url!r} is no URL: {exc}") from exc
    # A proxy of the environment is for hosts outside; instructions for this one are not its.
    return httpx.AsyncClient(base_url=url, timeout=timeout_s, trust_env=host not in _LOOPBACK)


async def gateway_answers(url: str) -> bool:
    """Whether a Toolwright gateway serves there."""
    try:
        async with _client(url, timeout_s=_PROBE_TIMEOUT_S) as client:
            response = await client.get("/methods")
    except httpx.HTTPError:
        return False
    return response.is_success and "methods" in response.text


def explain(exc: ValidationError) -> str:
    """The first thing that is wrong, in one line and without the value: it may be a secret."""
    first = exc.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "all together"
    return f"{exc.title}, {where}: {first['msg']}"


async def checked(response: httpx.Response) -> httpx.Response:
    """The response, if it is a success.

    Raises:
        ServiceError: The error the gateway answered with.
    """
    if not response.is_success:
        await response.aread()
        raise decode_error(response)
    return response

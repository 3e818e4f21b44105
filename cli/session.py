"""Connects a command to a system: the running gateway, or an embedded one of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from pydantic_settings import SettingsConfigDict

from services.contracts.clients.http import decode_error
from services.kit.settings import ServiceSettings

_PROBE_TIMEOUT_S = 2.0
_SILENCE_S = 600.0  # the longest pause within a stream: one model call


class CliSettings(ServiceSettings):
    """Settings of the command line, prefix `TOOLWRIGHT_`."""

    model_config = SettingsConfigDict(env_prefix="TOOLWRIGHT_", frozen=True, extra="ignore")

    url: str = "http://127.0.0.1:5000"
    """Gateway that commands talk to when it answers."""


@asynccontextmanager
async def connect() -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running gateway, else of an embedded system started for this command."""
    url = CliSettings().url
    if await _answers(url):
        async with httpx.AsyncClient(base_url=url, timeout=_SILENCE_S) as client:
            yield client
        return
    # Heavy packages are imported only by a command that hosts the system itself.
    from infra.embedded.host import serve_temporarily

    async with serve_temporarily() as socket:
        transport = httpx.AsyncHTTPTransport(uds=str(socket))
        async with httpx.AsyncClient(
            base_url="http://embedded", transport=transport, timeout=_SILENCE_S
        ) as client:
            yield client


async def _answers(url: str) -> bool:
    """Whether a Toolwright gateway serves there."""
    try:
        async with httpx.AsyncClient(base_url=url, timeout=_PROBE_TIMEOUT_S) as client:
            response = await client.get("/methods")
    except httpx.HTTPError:
        return False
    return response.is_success and "methods" in response.text


async def checked(response: httpx.Response) -> httpx.Response:
    """The response, if it is a success.

    Raises:
        ServiceError: The error the gateway answered with.
    """
    if not response.is_success:
        await response.aread()
        raise decode_error(response)
    return response

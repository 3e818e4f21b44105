"""Serving inside this process."""

import stat
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from infra.embedded.server import serve_socket
from services.contracts.errors import FailedPrecondition

pytestmark = pytest.mark.anyio


async def test_a_socket_is_open_to_its_user_only_and_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    async with serve_socket(FastAPI(), path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
            assert (await http.get("/openapi.json")).status_code == 200
    assert not path.exists()


async def test_a_path_too_long_for_a_socket_is_refused_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="TMPDIR"):
        async with serve_socket(FastAPI(), tmp_path / ("x" * 120)):
            pass

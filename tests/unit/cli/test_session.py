"""How a command finds the gateway, and how it words what goes wrong."""

import pytest
from pydantic import ValidationError

from cli.session import connect, explain
from gateway.settings import GatewaySettings
from services.contracts.errors import InvalidArgument, Unavailable
from tests.fakes.gateway import gateway_app
from tests.fakes.loopback import serve
from tests.fakes.planner import FakePlanner

pytestmark = pytest.mark.anyio


async def test_a_proxy_of_the_environment_never_sees_a_local_gateway(monkeypatch) -> None:
    async with serve(gateway_app(FakePlanner())) as url:
        monkeypatch.setenv("TOOLWRIGHT_URL", url)
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
        async with connect() as client:
            assert (await client.get("/methods")).status_code == 200


async def test_a_gateway_that_goes_away_is_a_typed_error(monkeypatch) -> None:
    async with serve(gateway_app(FakePlanner())) as url:
        monkeypatch.setenv("TOOLWRIGHT_URL", url)
        with pytest.raises(Unavailable, match="broke off"):
            async with connect() as client:
                await client.get("http://127.0.0.1:9/")


async def test_an_address_that_is_no_url_is_named(monkeypatch) -> None:
    monkeypatch.setenv("TOOLWRIGHT_URL", "http://[::1")
    with pytest.raises(InvalidArgument, match="TOOLWRIGHT_URL"):
        async with connect():
            pass


def test_a_bad_setting_is_named_without_its_value() -> None:
    with pytest.raises(ValidationError) as caught:
        GatewaySettings.model_validate({"max_depth": "hush"})
    assert "max_depth" in explain(caught.value)
    assert "hush" not in explain(caught.value)

"""`toolwright ask`: what it says when the gateway goes away."""

from collections.abc import AsyncGenerator

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from cli.ask import _ask
from services.contracts.errors import Unavailable
from tests.fakes import plan_runs
from tests.fakes.loopback import serve

pytestmark = pytest.mark.anyio


def breaking_off(*, has_begun: bool) -> FastAPI:
    """A gateway whose connection breaks before or after the first event of a run."""
    app = FastAPI()

    async def lines() -> AsyncGenerator[str, None]:
        yield ""
        if has_begun:
            event = plan_runs.short("hi")[0].model_copy(update={"run_id": "mine"})
            yield event.model_dump_json() + "\n"
        raise ConnectionResetError

    @app.get("/methods")
    async def methods() -> dict[str, list[str]]:
        return {"methods": []}

    @app.post("/v1/runs")
    async def runs() -> StreamingResponse:
        return StreamingResponse(lines())

    return app


async def test_a_gateway_that_breaks_off_leaves_the_id_to_resume_the_run_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serve(breaking_off(has_begun=True)) as url:
        monkeypatch.setenv("TOOLWRIGHT_URL", url)
        with pytest.raises(Unavailable, match="broke off.*`toolwright runs resume mine`"):
            await _ask({"text": "hi"}, as_json=False)


async def test_a_run_that_never_began_is_not_offered_to_be_resumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serve(breaking_off(has_begun=False)) as url:
        monkeypatch.setenv("TOOLWRIGHT_URL", url)
        with pytest.raises(Unavailable) as caught:
            await _ask({"text": "hi"}, as_json=False)
    assert "resume" not in caught.value.detail

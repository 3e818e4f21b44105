"""Which engine is chosen, and what a wrong choice says."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ValidationError

from services.contracts.errors import FailedPrecondition
from services.contracts.llm import ChatRequest, Message, MessageToolCall
from services.kit.settings import SharedSettings
from services.llm.app import build_app
from services.llm.bootstrap import open_llm
from services.llm.settings import LlmSettings
from tests.fakes.loopback import serve
from tests.unit.llm.conftest import convert_request

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLM_BASE_URL", "LLM_MODEL", "LLM_API_KEY", "LLM_ENGINE", "LLM_MODEL_PATH"):
        monkeypatch.delenv(name, raising=False)


def server_settings() -> SharedSettings:
    return SharedSettings(llm_base_url="http://127.0.0.1:9/v1", llm_model="big")


async def test_auto_takes_the_server_when_its_address_is_set() -> None:
    async with open_llm(LlmSettings(), server_settings()) as service:
        assert (service.info.engine, service.info.model) == ("openai", "big")


async def test_auto_takes_the_local_model_otherwise(model_folder: Path) -> None:
    async with open_llm(LlmSettings(model_path=model_folder), SharedSettings()) as service:
        assert (service.info.engine, service.info.constrain) == ("transformers", "values")


async def test_a_named_engine_wins_over_the_address(model_folder: Path) -> None:
    settings = LlmSettings(engine="transformers", model_path=model_folder, constrain="none")
    async with open_llm(settings, server_settings()) as service:
        assert (service.info.engine, service.info.constrain) == ("transformers", "none")


async def test_the_toolllama_dialect_can_be_chosen_for_a_server() -> None:
    async with open_llm(LlmSettings(dialect="toolllama"), server_settings()) as service:
        assert service.info.dialect == "toolllama"
        assert not service.info.follows_instructions


@pytest.mark.parametrize(
    ("quirks", "shown", "called"),
    [
        ({}, "Assistant: \nThought: T\nAction: f\nAction Input: {}\n", []),
        ({"toolllama_history": "thoughts"}, "Assistant: T\n", []),
        ({"toolllama_reference_parser": True}, "Action: f", ["x"]),
    ],
)
async def test_the_quirks_of_toolllamas_published_runs_can_be_chosen(
    quirks: dict[str, object], shown: str, called: list[str]
) -> None:
    app, prompts = FastAPI(), list[str]()

    @app.post("/v1/completions")
    async def complete(body: dict[str, object]) -> dict[str, object]:
        prompts.append(str(body["prompt"]))
        return {"choices": [{"text": "just text", "finish_reason": "stop"}]}

    call = MessageToolCall(id="call_0", name="f", arguments="{}")
    earlier = Message(role="assistant", content="T", tool_calls=(call,))
    request = ChatRequest(messages=(Message(role="user", content="hi"), earlier))
    async with serve(app) as url:
        shared = SharedSettings(llm_base_url=f"{url}/v1", llm_model="m")
        async with open_llm(LlmSettings(dialect="toolllama", **quirks), shared) as service:
            completion = await service.complete(request)
    assert shown in prompts[0]
    assert [one.name for one in completion.message.tool_calls] == called


async def test_what_a_model_can_do_may_be_said_by_settings(model_folder: Path) -> None:
    told = {"context_tokens": 512, "follows_instructions": True}
    for settings in (
        LlmSettings(dialect="toolllama", **told),
        LlmSettings(engine="transformers", model_path=model_folder, **told),
    ):
        async with open_llm(settings, server_settings()) as service:
            info = await service.describe()
            assert (info.context_tokens, info.follows_instructions) == (512, True)


def test_the_bundled_models_configuration_says_that_it_only_proposes_calls() -> None:
    folder = Path(__file__).parents[3] / "data" / "models" / "toolwright-mini"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["follows_instructions"] is False


async def test_a_server_without_address_or_name_is_refused() -> None:
    with pytest.raises(FailedPrecondition, match="LLM_BASE_URL and LLM_MODEL"):
        async with open_llm(LlmSettings(engine="openai"), SharedSettings()):
            pass


async def test_a_missing_model_folder_is_refused_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="LLM_MODEL_PATH"):
        async with open_llm(LlmSettings(model_path=tmp_path / "none"), SharedSettings()):
            pass


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_CONSTRAIN", "names")
    monkeypatch.setenv("LLM_BASE_URL", "http://elsewhere/v1")
    assert LlmSettings().constrain == "names"
    assert SharedSettings().llm_base_url == "http://elsewhere/v1"


@pytest.mark.parametrize("bad", [{"batch": 0}, {"constrain": "all"}, {"threads": 0}, {"port": -1}])
def test_bad_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LlmSettings(**bad)


async def test_the_app_serves_the_local_model(model_folder: Path) -> None:
    app = build_app(LlmSettings(model_path=model_folder), SharedSettings())
    async with serve(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        ready = await http.get("/readyz")
        request = convert_request(max_tokens=8)
        reply = await http.post("/v1/complete", content=request.model_dump_json())
    assert ready.status_code == 200
    assert reply.json()["raw_text"].startswith("Thought: ")


def test_a_service_over_a_server_needs_no_torch() -> None:
    code = (
        "import sys, services.llm.__main__, services.llm.engines.openai_compatible;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'tokenizers')))"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == 0

"""A ToolLLaMA checkpoint behind a text-completion server."""

import json

import httpx
import pytest

from services.llm.dialects.toolllama import ToolLlamaDialect
from services.llm.engines.openai_compatible import OpenAICompatibleEngine
from tests.unit.llm.conftest import convert_request

pytestmark = pytest.mark.anyio

STEP = "Thought: Convert.\nAction: convert_length_for_unit_converter\nAction Input: "
TEXT = STEP + '{"value": 12.5}\nThought: and on'


class CompletionServer:
    """Answers with one text, whole or token by token."""

    def __init__(self) -> None:
        self.body: dict[str, object] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/completions"
        self.body = json.loads(request.content)
        usage = {"prompt_tokens": 9, "completion_tokens": 4}
        if not self.body.get("stream"):
            choice = {"text": TEXT, "finish_reason": "stop"}
            return httpx.Response(200, json={"choices": [choice], "usage": usage})
        chunks = [{"choices": [{"text": char}]} for char in TEXT]
        chunks.append({"choices": [{"text": "", "finish_reason": "stop"}], "usage": usage})
        lines = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
        return httpx.Response(200, text=lines + "data: [DONE]\n\n")


@pytest.fixture
def server() -> CompletionServer:
    return CompletionServer()


@pytest.fixture
def engine(server: CompletionServer) -> OpenAICompatibleEngine:
    http = httpx.AsyncClient(transport=httpx.MockTransport(server))
    return OpenAICompatibleEngine(
        http=http, base_url="http://model/v1", model="m", dialect=ToolLlamaDialect()
    )


async def test_the_prompt_is_text_and_the_reply_is_parsed(
    engine: OpenAICompatibleEngine, server: CompletionServer
) -> None:
    completion = await engine.complete(convert_request(stop=("END",)))
    assert str(server.body["prompt"]).startswith("System: Your output should follow this format:")
    assert server.body["stop"] == ["END", "</s>"]
    assert completion.message.content == "Convert."
    assert completion.message.tool_calls[0].arguments == '{"value": 12.5}'
    assert completion.finish_reason == "tool_calls"
    assert completion.raw_text == TEXT


async def test_a_stream_ends_with_the_same_completion(engine: OpenAICompatibleEngine) -> None:
    deltas = [delta async for delta in engine.stream(convert_request())]
    assert "".join(delta.text for delta in deltas) == TEXT
    assert deltas[-1].completion == await engine.complete(convert_request())

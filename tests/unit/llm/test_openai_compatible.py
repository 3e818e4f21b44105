"""The OpenAI-compatible engine against a scripted transport."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from time import monotonic, time

import httpx
import pytest

from services.contracts.context import deadline_in
from services.contracts.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    PayloadTooLarge,
    ResourceExhausted,
    ServiceError,
    Unavailable,
)
from services.contracts.llm import ChatRequest, FunctionSchema, Message, MessageToolCall
from services.llm.engines import openai_compatible
from services.llm.engines.openai_compatible import OpenAICompatibleEngine

pytestmark = pytest.mark.anyio

ADD = FunctionSchema(name="add", description="Adds.", parameters={"type": "object"})
REQUEST = ChatRequest(messages=(Message(role="user", content="1 + 2?"),), tools=(ADD,))
ANSWER = {
    "choices": [{"message": {"content": "3", "tool_calls": None}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 1},
}


class ScriptedServer:
    """Answers each request with the next response and remembers what it was sent."""

    def __init__(self, *responses: httpx.Response | Exception) -> None:
        self._responses = list(responses)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._responses.pop(0)
        match answer:
            case Exception():
                raise answer
            case _:
                return answer

    def body(self, index: int = 0) -> dict[str, object]:
        return json.loads(self.requests[index].content)


def engine_of(
    server: Callable[[httpx.Request], httpx.Response], api_key: str | None = None
) -> OpenAICompatibleEngine:
    http = httpx.AsyncClient(transport=httpx.MockTransport(server))
    return OpenAICompatibleEngine(
        http=http, base_url="http://model/v1/", model="m", api_key=api_key, timeout_s=5
    )


def answered(body: object = ANSWER, status: int = 200, **headers: str) -> httpx.Response:
    return httpx.Response(status, json=body, headers=headers)


def events(*data: object, done: bool = True) -> httpx.Response:
    lines = [": keep-alive", ""]
    for item in data:
        lines += [f"data: {json.dumps(item)}", ""]
    text = "\n".join([*lines, *["data: [DONE]", ""] * done])
    return httpx.Response(200, content=text.encode(), headers={"content-type": "text/event-stream"})


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_compatible, "_PAUSES_S", (0.001, 0.001))


async def test_a_reply_keeps_content_usage_and_reason() -> None:
    completion = await engine_of(ScriptedServer(answered())).complete(REQUEST)
    assert completion.message == Message(role="assistant", content="3")
    assert completion.usage.total_tokens == 6
    assert completion.finish_reason == "stop"


async def test_the_request_carries_tools_as_given_and_sampling_fields() -> None:
    server = ScriptedServer(answered())
    request = REQUEST.model_copy(
        update={"seed": 3, "stop": ("END",), "tool_choice": "required", "max_tokens": 9}
    )
    await engine_of(server, api_key="secret").complete(request)
    body = server.body()
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "1 + 2?"}],
        "tools": [{"type": "function", "function": ADD.model_dump()}],
        "tool_choice": "required",
        "seed": 3,
        "stop": ["END"],
        "max_tokens": 9,
        "temperature": 0.0,
    }
    assert server.requests[0].url == "http://model/v1/chat/completions"
    assert server.requests[0].headers["authorization"] == "Bearer secret"


async def test_calls_and_their_answers_are_sent_in_openai_form() -> None:
    server = ScriptedServer(answered())
    call = MessageToolCall(id="c1", name="add", arguments='{"a": 1}')
    messages = (
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", content="3", name="add", tool_call_id="c1"),
    )
    await engine_of(server).complete(ChatRequest(messages=messages))
    assert server.body()["messages"] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": call.model_dump(exclude={"id"})}
            ],
        },
        {"role": "tool", "content": "3", "name": "add", "tool_call_id": "c1"},
    ]
    assert "tools" not in server.body()


async def test_several_calls_keep_order_and_argument_text() -> None:
    calls = [
        {"id": "x", "type": "function", "function": {"name": "add", "arguments": '{"a": '}},
        {"id": "y", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}},
    ]
    choice = {"message": {"content": None, "tool_calls": calls}, "finish_reason": "stop"}
    completion = await engine_of(ScriptedServer(answered({"choices": [choice]}))).complete(REQUEST)
    assert [c.arguments for c in completion.message.tool_calls] == ['{"a": ', '{"a": 1}']
    assert completion.message.content is None
    assert completion.finish_reason == "tool_calls"


async def test_a_reply_that_was_cut_off_says_so_even_with_a_call() -> None:
    call = {"id": "x", "type": "function", "function": {"name": "add", "arguments": '{"a": '}}
    choice = {"message": {"content": None, "tool_calls": [call]}, "finish_reason": "length"}
    completion = await engine_of(ScriptedServer(answered({"choices": [choice]}))).complete(REQUEST)
    assert completion.finish_reason == "length"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidArgument),
        (401, FailedPrecondition),
        (404, FailedPrecondition),
        (413, PayloadTooLarge),
        (422, InvalidArgument),
        (429, ResourceExhausted),
    ],
)
async def test_a_refusal_is_typed_and_not_repeated(status: int, error: type[ServiceError]) -> None:
    server = ScriptedServer(answered({"error": {"message": "too long: 9000 tokens"}}, status))
    with pytest.raises(error):
        await engine_of(server).complete(REQUEST)
    assert len(server.requests) == 1


async def test_context_overflow_says_what_the_server_says() -> None:
    server = ScriptedServer(answered({"error": {"message": "context is 4096 tokens"}}, 400))
    with pytest.raises(InvalidArgument, match="context is 4096 tokens"):
        await engine_of(server).complete(REQUEST)


async def test_a_refused_key_is_not_quoted() -> None:
    server = ScriptedServer(answered({"error": {"message": "bad key sk-123"}}, 401))
    with pytest.raises(FailedPrecondition) as caught:
        await engine_of(server, api_key="sk-123").complete(REQUEST)
    assert "sk-123" not in caught.value.detail


async def test_a_server_error_is_tried_again() -> None:
    server = ScriptedServer(answered({}, 500), httpx.ConnectError("refused"), answered())
    completion = await engine_of(server).complete(REQUEST)
    assert completion.message.content == "3"
    assert len(server.requests) == 3


async def test_server_errors_are_tried_three_times_at_most() -> None:
    server = ScriptedServer(*(answered({}, 503) for _ in range(9)))
    with pytest.raises(Unavailable, match="503"):
        await engine_of(server).complete(REQUEST)
    assert len(server.requests) == 3


async def test_a_rate_limit_is_waited_for_once() -> None:
    server = ScriptedServer(
        answered({}, 429, **{"retry-after": "0"}), answered({}, 429, **{"retry-after": "0"})
    )
    with pytest.raises(ResourceExhausted):
        await engine_of(server).complete(REQUEST)
    assert len(server.requests) == 2


async def test_a_rate_limit_with_a_date_is_waited_for() -> None:
    date = formatdate(time() - 5, usegmt=True)
    server = ScriptedServer(answered({}, 429, **{"retry-after": date}), answered())
    assert (await engine_of(server).complete(REQUEST)).message.content == "3"


async def test_a_rate_limit_beyond_the_deadline_fails_at_once() -> None:
    server = ScriptedServer(answered({}, 429, **{"retry-after": "60"}))
    started = monotonic()
    with pytest.raises(ResourceExhausted), deadline_in(1.0):
        await engine_of(server).complete(REQUEST)
    assert monotonic() - started < 0.5


async def test_a_passed_deadline_sends_nothing() -> None:
    server = ScriptedServer(answered())
    with pytest.raises(DeadlineExceeded), deadline_in(-1.0):
        await engine_of(server).complete(REQUEST)
    assert server.requests == []


@pytest.mark.parametrize("body", [[], {"choices": []}, {"choices": 3}, "text", {"error": "x"}])
async def test_nonsense_is_unavailable(body: object) -> None:
    with pytest.raises(Unavailable):
        await engine_of(ScriptedServer(answered(body))).complete(REQUEST)


async def test_a_stream_yields_text_and_then_the_whole_reply() -> None:
    server = ScriptedServer(
        events(
            {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
            {"choices": [{"delta": {"content": "1 and "}}]},
            {"choices": [{"delta": {"content": "2"}}]},
            {"choices": [{"delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}},
        )
    )
    deltas = [delta async for delta in engine_of(server).stream(REQUEST)]
    assert [delta.text for delta in deltas] == ["1 and ", "2", ""]
    assert [delta.completion is None for delta in deltas] == [True, True, False]
    last = deltas[-1].completion
    assert last is not None
    assert last.message.content == "1 and 2"
    assert last.usage.total_tokens == 6


async def test_streamed_call_pieces_are_joined_by_index() -> None:
    def piece(index: int, **function: str) -> dict[str, object]:
        call = {"index": index, "id": f"c{index}", "function": function}
        return {"choices": [{"delta": {"tool_calls": [call]}}]}

    server = ScriptedServer(
        events(
            piece(0, name="add", arguments=""),
            piece(1, name="sub", arguments="{"),
            piece(0, arguments='{"a"'),
            piece(1, arguments="}"),
            piece(0, arguments=": 1}"),
            {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]},
        )
    )
    last = [delta async for delta in engine_of(server).stream(REQUEST)][-1].completion
    assert last is not None
    assert [(c.id, c.name, c.arguments) for c in last.message.tool_calls] == [
        ("c0", "add", '{"a": 1}'),
        ("c1", "sub", "{}"),
    ]


async def test_a_stream_that_breaks_off_is_unavailable() -> None:
    server = ScriptedServer(events({"choices": [{"delta": {"content": "1"}}]}, done=False))
    with pytest.raises(Unavailable, match="broke off"):
        _ = [delta async for delta in engine_of(server).stream(REQUEST)]


async def test_an_error_inside_a_stream_is_unavailable() -> None:
    server = ScriptedServer(events({"error": {"message": "out of memory"}}))
    with pytest.raises(Unavailable, match="reports an error"):
        _ = [delta async for delta in engine_of(server).stream(REQUEST)]


async def test_a_stream_is_tried_again_only_before_it_begins() -> None:
    server = ScriptedServer(
        answered({}, 502), events({"choices": [{"delta": {"content": "1"}}]}, done=False)
    )
    with pytest.raises(Unavailable):
        _ = [delta async for delta in engine_of(server).stream(REQUEST)]
    assert len(server.requests) == 2


class SlowBody(httpx.AsyncByteStream):
    """Sends one event and then nothing; knows whether it was closed."""

    def __init__(self) -> None:
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        import anyio

        yield b'data: {"choices": [{"delta": {"content": "1"}}]}\n\n'
        await anyio.sleep(30)

    async def aclose(self) -> None:
        self.is_closed = True


async def test_a_silent_stream_ends_at_the_deadline() -> None:
    server = ScriptedServer(httpx.Response(200, stream=SlowBody()))
    with pytest.raises(DeadlineExceeded), deadline_in(0.2):
        _ = [delta async for delta in engine_of(server).stream(REQUEST)]


async def test_leaving_a_stream_closes_the_answer() -> None:
    body = SlowBody()
    stream = engine_of(ScriptedServer(httpx.Response(200, stream=body))).stream(REQUEST)
    first = await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert first.text == "1"
    assert body.is_closed


@pytest.mark.parametrize(
    ("listed", "context"),
    [
        ([{"id": "m", "max_model_len": 4096}], 4096),
        ([{"id": "x", "max_model_len": 1}, {"id": "m", "context_length": 8192}], 8192),
        ([{"id": "other-name", "context_window": 32768}], 32768),
        ([{"id": "m", "meta": {"n_ctx": 2048, "n_ctx_train": 131072}}], 2048),
        ([{"id": "x", "max_model_len": 1}, {"id": "y", "max_model_len": 2}], None),
        ([{"id": "m", "max_model_len": True}], None),
        ([{"id": "m", "max_model_len": "4096"}], None),
        ("nonsense", None),
    ],
)
async def test_the_context_is_what_the_list_of_models_says(
    listed: object, context: int | None
) -> None:
    engine = engine_of(ScriptedServer(answered({"object": "list", "data": listed})))
    assert (await engine.describe()).context_tokens == context


async def test_a_server_is_asked_once_for_its_context() -> None:
    server = ScriptedServer(answered({"data": [{"id": "m", "max_model_len": 4096}]}))
    engine = engine_of(server)
    infos = await asyncio.gather(*(engine.describe() for _ in range(3)))
    assert {info.context_tokens for info in infos} == {4096}
    assert [request.url.path for request in server.requests] == ["/v1/models"]


async def test_a_server_that_cannot_tell_is_no_error_and_is_asked_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed = answered({"data": [{"id": "m", "max_model_len": 4096}]})
    server = ScriptedServer(httpx.ConnectError("refused"), listed)
    engine = engine_of(server)
    assert (await engine.describe()).context_tokens is None
    assert (await engine.describe()).context_tokens is None
    assert len(server.requests) == 1
    monkeypatch.setattr(openai_compatible.time, "monotonic", lambda: monotonic() + 31.0)
    assert (await engine.describe()).context_tokens == 4096


async def test_a_given_context_needs_no_question() -> None:
    server = ScriptedServer()
    http = httpx.AsyncClient(transport=httpx.MockTransport(server))
    engine = OpenAICompatibleEngine(
        http=http, base_url="http://model/v1", model="m", context_tokens=999
    )
    info = await engine.describe()
    assert (info.context_tokens, info.follows_instructions) == (999, True)

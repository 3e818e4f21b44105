"""The same cases on both bodies of the `ChatModel` port: in this process, and over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from services.contracts.clients.llm import HttpChatModel
from services.contracts.context import deadline_in, remaining_s
from services.contracts.errors import (
    DeadlineExceeded,
    InvalidArgument,
    PayloadTooLarge,
    ResourceExhausted,
    ServiceError,
    Unavailable,
)
from services.contracts.llm import (
    ChatModel,
    ChatRequest,
    Completion,
    CompletionDelta,
    FunctionSchema,
    Message,
    MessageToolCall,
    ModelInfo,
    Usage,
)
from services.kit.app import create_app
from services.llm.routes import router
from services.llm.service import LlmService
from tests.fakes.loopback import serve

pytestmark = pytest.mark.anyio

CALL = MessageToolCall(id="call_0", name="f_for_t", arguments='{"a": "é😀", "b": ')
COMPLETION = Completion(
    message=Message(role="assistant", content="Think\n", tool_calls=(CALL,)),
    usage=Usage(prompt_tokens=7, completion_tokens=3),
    finish_reason="tool_calls",
    raw_text="Thought: Think",
)
TOOL = FunctionSchema(
    name="f_for_t",
    description="Does.",
    parameters={"type": "object", "properties": {"a": {"example_value": 0}}, "optional": [""]},
)
REQUEST = ChatRequest(
    messages=(
        Message(role="user", content="Do it"),
        Message(role="assistant", tool_calls=(CALL,)),
        Message(role="tool", name="f_for_t", content="done", tool_call_id="call_0"),
    ),
    tools=(TOOL,),
    seed=3,
    stop=("END",),
    session="run-1",
)


class World:
    """An engine whose behaviour a test may change, and what it was asked."""

    def __init__(self) -> None:
        self.requests: list[ChatRequest] = []
        self.error: ServiceError | None = None
        self.pieces = ["Thi", "nk\n"]
        self.holds = asyncio.Event()
        self.holds.set()
        self.entered = asyncio.Semaphore(0)
        self.left = asyncio.Semaphore(0)
        self.seconds_left: list[float] = []

    info = ModelInfo(model="m", engine="scripted", dialect="openai")

    async def describe(self) -> ModelInfo:
        return self.info

    async def check_ready(self) -> None:
        self._fail()

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error

    async def complete(self, request: ChatRequest) -> Completion:
        self.requests.append(request)
        self.entered.release()
        self.seconds_left.append(remaining_s(at_most_s=1000.0))
        try:
            async with asyncio.timeout(remaining_s(at_most_s=10.0)):
                await self.holds.wait()
        except TimeoutError as exc:
            raise DeadlineExceeded("held too long") from exc
        self._fail()
        return COMPLETION

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionDelta]:
        try:
            for piece in self.pieces:
                yield CompletionDelta(text=piece)
            yield CompletionDelta(completion=await self.complete(request))
        finally:
            self.left.release()

    def service(self) -> LlmService:
        return LlmService(engine=self, max_inside=2)

    def app(self) -> FastAPI:
        @asynccontextmanager
        async def open_service() -> AsyncIterator[LlmService]:
            yield self.service()

        return create_app(
            title="llm",
            routers=[router],
            open_service=open_service,
            check_ready=LlmService.check_ready,
        )


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serve(world.app()) as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        yield client


@asynccontextmanager
async def open_direct(world: World) -> AsyncIterator[ChatModel]:
    yield world.service()


@asynccontextmanager
async def open_over_http(world: World) -> AsyncIterator[ChatModel]:
    async with (
        serve(world.app()) as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        yield HttpChatModel(client)


@pytest.fixture(params=["in_process", "http"])
async def model(world: World, request: pytest.FixtureRequest) -> AsyncIterator[ChatModel]:
    bodies = {"in_process": open_direct, "http": open_over_http}
    async with bodies[request.param](world) as body:
        yield body


async def test_request_and_completion_arrive_unchanged(model: ChatModel, world: World) -> None:
    assert await model.complete(REQUEST) == COMPLETION
    assert world.requests == [REQUEST]


async def test_a_stream_gives_its_pieces_and_then_the_completion(model: ChatModel) -> None:
    deltas = [delta async for delta in model.stream(REQUEST)]
    assert [delta.text for delta in deltas] == ["Thi", "nk\n", ""]
    assert [delta.completion for delta in deltas] == [None, None, COMPLETION]


@pytest.mark.parametrize(
    "error", [InvalidArgument, ResourceExhausted, DeadlineExceeded, Unavailable]
)
async def test_errors_keep_their_class_and_detail(
    model: ChatModel, world: World, error: type[ServiceError]
) -> None:
    world.error = error("the prompt has 5000 tokens")
    with pytest.raises(error, match="5000 tokens"):
        await model.complete(REQUEST)


async def test_an_error_in_the_middle_of_a_stream_is_raised_after_its_pieces(
    model: ChatModel, world: World
) -> None:
    world.error = Unavailable("the server broke off")
    seen: list[str] = []
    with pytest.raises(Unavailable, match="broke off"):
        async for delta in model.stream(REQUEST):
            seen.append(delta.text)
    assert seen == ["Thi", "nk\n"]


async def test_an_error_before_the_first_piece_is_raised(model: ChatModel, world: World) -> None:
    world.error, world.pieces = InvalidArgument("too long"), []
    with pytest.raises(InvalidArgument, match="too long"):
        _ = [delta async for delta in model.stream(REQUEST)]


async def test_the_deadline_reaches_the_engine(model: ChatModel, world: World) -> None:
    with deadline_in(30.0):
        await model.complete(REQUEST)
    assert 25.0 < world.seconds_left[0] <= 30.1


async def test_a_reply_that_takes_too_long_is_a_deadline(model: ChatModel, world: World) -> None:
    world.holds.clear()
    with pytest.raises(DeadlineExceeded), deadline_in(0.2):
        await model.complete(REQUEST)


async def test_more_requests_than_the_limit_are_refused(model: ChatModel, world: World) -> None:
    world.holds.clear()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        waiting = [group.create_task(model.complete(REQUEST)) for _ in range(2)]
        for _ in waiting:
            await world.entered.acquire()
        with pytest.raises(ResourceExhausted, match="the limit is 2"):
            await model.complete(REQUEST)
        world.holds.set()
    assert [task.result() for task in waiting] == [COMPLETION] * 2


async def test_leaving_a_stream_stops_the_engine_and_frees_its_place(
    model: ChatModel, world: World
) -> None:
    world.holds.clear()
    for _ in range(3):
        stream = model.stream(REQUEST)
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        async with asyncio.timeout(10):
            await world.left.acquire()
    world.holds.set()
    assert await model.complete(REQUEST) == COMPLETION


async def test_a_request_that_is_too_large_is_refused(model: ChatModel, world: World) -> None:
    huge = REQUEST.model_copy(update={"messages": (Message(role="user", content="x" * 1_100_000),)})
    with pytest.raises(PayloadTooLarge, match="1048576"):
        await model.complete(huge)
    assert world.requests == []


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"not json", "Invalid JSON"),
        (b"{}", "messages"),
        (b'{"messages": []}', "at least 1"),
        (b'{"messages": [{"role": "user"}], "max_tokens": 1000000000}', "32768"),
        (b'{"messages": [{"role": "user"}], "top_k": 3}', "top_k"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/complete", "/v1/complete/stream"])
async def test_a_bad_body_is_a_problem_that_names_field_and_limit(
    http: httpx.AsyncClient, path: str, body: bytes, named: str
) -> None:
    response = await http.post(path, content=body)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert named in response.json()["detail"]


async def test_a_refused_stream_is_answered_with_its_status(
    http: httpx.AsyncClient, world: World
) -> None:
    world.error, world.pieces = ResourceExhausted("queue is full"), []
    response = await http.post("/v1/complete/stream", content=REQUEST.model_dump_json())
    assert response.status_code == 429
    assert response.json()["code"] == "resource_exhausted"


async def test_the_model_describes_itself(model: ChatModel, world: World) -> None:
    assert await model.describe() == world.info


async def test_a_description_is_asked_for_until_it_tells_the_context(
    http: httpx.AsyncClient, world: World
) -> None:
    model = HttpChatModel(http)
    world.info = ModelInfo(model="early")
    assert (await model.describe()).model == "early"
    world.info = ModelInfo(model="later", context_tokens=4096)
    assert (await model.describe()).context_tokens == 4096
    world.info = ModelInfo(model="unasked", context_tokens=1)
    assert (await model.describe()).model == "later"


async def test_the_model_can_be_asked_for(http: httpx.AsyncClient, world: World) -> None:
    response = await http.get("/v1/model")
    assert ModelInfo.model_validate(response.json()) == world.info


async def test_readiness_follows_the_engine(http: httpx.AsyncClient, world: World) -> None:
    before = await http.get("/readyz")
    world.error = Unavailable("no connection")
    after = await http.get("/readyz")
    assert (before.status_code, after.status_code) == (200, 503)

"""`ChatModel` over any OpenAI-compatible server: vLLM, llama.cpp, Ollama, OpenAI itself.

With a text dialect the engine uses `/completions` and parses the text itself (ToolLLaMA); without
one it uses `/chat/completions` and the server's own tool calling.
"""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from typing import TypeVar

import httpx
from pydantic import JsonValue, ValidationError

from services.contracts.context import remaining_s
from services.contracts.errors import (
    DeadlineExceeded,
    ResourceExhausted,
    ServiceError,
    Unavailable,
)
from services.contracts.llm import ChatRequest, Completion, CompletionDelta, ModelInfo
from services.llm.dialects.base import ReplyParser, TextDialect
from services.llm.dialects.openai import (
    ChatAssembler,
    ReplyBody,
    chat_json,
    completion_of,
    finish_reason_of,
    sampling_json,
)
from services.llm.engines.openai_errors import error_of, retry_after_s
from services.llm.engines.openai_models import context_of
from services.llm.engines.sse import sse_data, text_lines

_MAX_REPLY_BYTES = 16 << 20  # far above 32,768 tokens of text, far below the memory of a host
_PAUSES_S = (0.2, 0.8)  # before the second and the third try: a restart of a proxy, not of a model
_READY_TIMEOUT_S = 5.0
_DESCRIBE_TIMEOUT_S = 3.0  # below what the port's HTTP client waits
_DESCRIBE_AGAIN_S = 30.0  # a server that hangs must not hold up every run that begins

T = TypeVar("T")


class OpenAICompatibleEngine:
    """See `Engine`. Sampling changes nothing on the server, so a failed try is safe to repeat."""

    def __init__(
        self,
        *,
        http: httpx.AsyncClient,
        base_url: str,
        model: str,
        api_key: str | None = None,
        dialect: TextDialect | None = None,
        timeout_s: float = 600.0,
        context_tokens: int | None = None,
        follows_instructions: bool | None = None,
    ) -> None:
        """Serve `model` at `base_url`.

        Args:
            http: Client of the caller, who closes it.
            base_url: Server including the version, e.g. `http://127.0.0.1:8000/v1`.
            model: Name the server knows the model by.
            api_key: Bearer token; never logged.
            dialect: Text form of the model's prompts and calls; `None` leaves both to the server.
            timeout_s: Longest wait for one reply, seconds; the request's deadline may shorten it.
            context_tokens: Prompt and reply together; `None` asks the server.
            follows_instructions: See `ModelInfo`; `None` says no for a text dialect only, whose
                models were tuned to propose calls.
        """
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._model = model
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._dialect = dialect
        self._timeout_s = timeout_s
        self._context_tokens = context_tokens
        self._follows_instructions = (
            dialect is None if follows_instructions is None else follows_instructions
        )
        self._describing = asyncio.Lock()
        self._describe_at = 0.0 if context_tokens is None else math.inf

    @property
    def info(self) -> ModelInfo:
        """See `Engine.info`."""
        dialect = "openai" if self._dialect is None else self._dialect.name
        return ModelInfo(
            model=self._model,
            engine="openai",
            dialect=dialect,
            context_tokens=self._context_tokens,
            follows_instructions=self._follows_instructions,
        )

    async def describe(self) -> ModelInfo:
        """See `ChatModel.describe`; the context is what the server's list of models says.

        OpenAI's protocol has no field for it; vLLM and others add one. A server that cannot tell
        now is asked again later and never an error.
        """
        async with self._describing:
            if time.monotonic() >= self._describe_at:
                with suppress(ServiceError):
                    self._context_tokens = await self._served_context()
                    self._describe_at = math.inf
                self._describe_at = max(self._describe_at, time.monotonic() + _DESCRIBE_AGAIN_S)
        return self.info

    async def _served_context(self) -> int | None:
        async with self._request("GET", "/models", None, timeout_s=_DESCRIBE_TIMEOUT_S) as response:
            await _require_success(response)
            return context_of(await _read(response), model=self._model)

    async def check_ready(self) -> None:
        """See `Engine.check_ready`; any answer below 500 counts, as not all list their models."""
        async with self._request("GET", "/models", None, timeout_s=_READY_TIMEOUT_S) as response:
            if response.status_code >= 500:
                raise error_of(response, b"")

    async def complete(self, request: ChatRequest) -> Completion:
        """See `ChatModel.complete`."""
        wait_s = remaining_s(at_most_s=self._timeout_s)
        try:
            async with asyncio.timeout(wait_s):
                return await self._complete(request)
        except TimeoutError as exc:
            raise DeadlineExceeded(f"the model server gave no reply within {wait_s:.1f} s") from exc

    async def _complete(self, request: ChatRequest) -> Completion:
        path, body = self._call(request)
        reply = _parse(await self._retrying(lambda: self._post(path, body)))
        if not reply.choices:
            raise Unavailable("the model server answered without choices")
        if self._dialect is None:
            return completion_of(reply)
        choice, parser = reply.choices[0], self._dialect.parser(request)
        return _text_completion(parser, choice.text or "", choice.finish_reason, reply)

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionDelta]:
        """See `ChatModel.stream`."""
        ends_at = time.monotonic() + remaining_s(at_most_s=self._timeout_s)
        async with aclosing(self._chunks(request)) as chunks:
            pieces = (
                _chat_pieces(chunks)
                if self._dialect is None
                else _text_pieces(self._dialect.parser(request), chunks)
            )
            while (delta := await _next_before(pieces, ends_at)) is not None:
                yield delta

    async def _chunks(self, request: ChatRequest) -> AsyncGenerator[ReplyBody, None]:
        """Chunks of a streamed answer.

        Raises:
            Unavailable: The server broke off, or reports an error inside the stream.
        """
        path, body = self._call(request)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        async with AsyncExitStack() as stack:

            async def opened() -> httpx.Response:
                response = await stack.enter_async_context(
                    self._request("POST", path, body, timeout_s=self._timeout_s)
                )
                await _require_success(response)
                return response

            response = await self._retrying(opened)
            finished = False
            async for data in sse_data(text_lines(response.aiter_text())):
                if data == "[DONE]":
                    return
                chunk = _parse(data.encode())
                finished |= any(choice.finish_reason for choice in chunk.choices)
                yield chunk
            if not finished:
                raise Unavailable("the model server broke off in the middle of a reply")

    def _call(self, request: ChatRequest) -> tuple[str, dict[str, JsonValue]]:
        """Path and body of the request in the server's form."""
        if self._dialect is None:
            return "/chat/completions", chat_json(request, model=self._model)
        body = sampling_json(request, model=self._model)
        body["prompt"] = self._dialect.render(request)
        body["stop"] = [*request.stop, *self._dialect.stop]
        return "/completions", body

    async def _retrying(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Result of `attempt`, tried again within the deadline.

        A transport error or a 5xx is tried again after a pause, a 429 once after the time the
        server asks for.
        """
        pauses, may_wait_for_limit = list(_PAUSES_S), True
        while True:
            try:
                return await attempt()
            except Unavailable:
                if not pauses:
                    raise
                pause_s = pauses.pop(0)
                if pause_s >= remaining_s(at_most_s=self._timeout_s):
                    raise
            except _RateLimited as exc:
                if not may_wait_for_limit or exc.retry_after_s is None:
                    raise
                pause_s, may_wait_for_limit = exc.retry_after_s, False
                if pause_s >= remaining_s(at_most_s=self._timeout_s):
                    raise
            await asyncio.sleep(pause_s)

    async def _post(self, path: str, body: dict[str, JsonValue]) -> bytes:
        async with self._request("POST", path, body, timeout_s=self._timeout_s) as response:
            await _require_success(response)
            return await _read(response)

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, body: dict[str, JsonValue] | None, *, timeout_s: float
    ) -> AsyncIterator[httpx.Response]:
        """One try; the answer's body is not read yet."""
        wait_s = remaining_s(at_most_s=timeout_s)
        try:
            async with self._http.stream(
                method, self._base_url + path, json=body, headers=self._headers, timeout=wait_s
            ) as response:
                yield response
        except httpx.TimeoutException as exc:
            raise DeadlineExceeded(f"the model server was silent for {wait_s:.1f} s") from exc
        except httpx.TransportError as exc:
            raise Unavailable(f"the model server failed: {type(exc).__name__}: {exc}") from exc


class _RateLimited(ResourceExhausted):
    """A 429 with the pause the server asks for."""

    def __init__(self, detail: str, retry_after_s: float | None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


async def _require_success(response: httpx.Response) -> None:
    if response.is_success:
        return
    error = error_of(response, await _read(response))
    if isinstance(error, ResourceExhausted):
        raise _RateLimited(error.detail, retry_after_s(response))
    raise error


async def _read(response: httpx.Response) -> bytes:
    """The whole body, at most `_MAX_REPLY_BYTES`."""
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > _MAX_REPLY_BYTES:
            raise Unavailable(f"the model server sent more than {_MAX_REPLY_BYTES} bytes")
    return bytes(body)


def _parse(data: bytes) -> ReplyBody:
    try:
        reply = ReplyBody.model_validate_json(data)
    except ValidationError as exc:
        fields = ", ".join(".".join(map(str, e["loc"])) or "body" for e in exc.errors()[:3])
        raise Unavailable(f"the model server's answer is not OpenAI's: {fields}") from None
    if reply.error:
        raise Unavailable("the model server reports an error in the middle of a reply")
    return reply


def _text_completion(
    parser: ReplyParser, text: str, reason: str | None, reply: ReplyBody
) -> Completion:
    parser.feed(text)
    message = parser.message()
    return Completion(
        message=message,
        usage=reply.usage_counts(),
        finish_reason=finish_reason_of(reason, message),
        raw_text=text,
    )


async def _chat_pieces(chunks: AsyncIterator[ReplyBody]) -> AsyncIterator[CompletionDelta]:
    assembler = ChatAssembler()
    async for chunk in chunks:
        text = assembler.add(chunk)
        if text:
            yield CompletionDelta(text=text)
    yield CompletionDelta(completion=assembler.completion())


async def _text_pieces(
    parser: ReplyParser, chunks: AsyncIterator[ReplyBody]
) -> AsyncIterator[CompletionDelta]:
    text, reason, last = "", None, ReplyBody()
    async for chunk in chunks:
        last = chunk if chunk.usage else last
        for choice in chunk.choices[:1]:
            reason = choice.finish_reason or reason
            if choice.text:
                text += choice.text
                yield CompletionDelta(text=choice.text)
    yield CompletionDelta(completion=_text_completion(parser, text, reason, last))


async def _next_before(
    pieces: AsyncIterator[CompletionDelta], ends_at: float
) -> CompletionDelta | None:
    """The next piece, `None` at the end; the limit holds per piece, since the reader may pause."""
    try:
        async with asyncio.timeout(ends_at - time.monotonic()):
            return await anext(pieces, None)
    except TimeoutError as exc:
        raise DeadlineExceeded("the model server did not finish its reply in time") from exc

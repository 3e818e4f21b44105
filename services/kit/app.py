"""Builds the FastAPI application that every service shares: context, errors, health."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, TypeVar

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.contracts.context import (
    DEADLINE_HEADER,
    REQUEST_ID_HEADER,
    TRACE_HEADER,
    deadline_in,
    request_scope,
    trace_scope,
)
from services.contracts.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    PayloadTooLarge,
    Problem,
    ServiceError,
)
from services.contracts.ids import RequestId
from services.kit.telemetry import is_tracing, note_error, span

MAX_BODY_BYTES = 1 << 20
_MAX_REQUEST_S = 86_400.0  # a day: the longest deadline a caller may ask for
_CLIENT_CLOSED_REQUEST = 499  # nginx's number; HTTP has none
_SCOPE_KEY = "toolwright.request_id"
_ID_NAME = REQUEST_ID_HEADER.lower().encode()
_DEADLINE_NAME = DEADLINE_HEADER.lower().encode()
_TRACE_NAME = TRACE_HEADER.encode()
_UNTRACED_PATHS = frozenset({"/healthz", "/readyz"})  # asked every few seconds, for ever
_BODY_TIMEOUT_S = 30.0  # a client that stops sending must not hold a task for ever

S = TypeVar("S")
T = TypeVar("T")
log = structlog.get_logger()


class ContextMiddleware:
    """Puts the request's id, deadline and trace into context variables, for streams too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; see the class."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given_id = deadline = traceparent = b""
        for name, value in scope["headers"]:  # in lower case, as ASGI demands
            if name == _ID_NAME:
                given_id = value
            elif name == _DEADLINE_NAME:
                deadline = value
            elif name == _TRACE_NAME:
                traceparent = value
        request_id = _accepted_id(given_id.decode("latin-1"))
        scope[_SCOPE_KEY] = request_id  # a crash is handled outside this middleware

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = message["status"]
                served.set_attribute("http.response.status_code", status)
                if status >= 500:
                    note_error(served, str(status))
                headers = [pair for pair in message.get("headers", ()) if pair[0] != _ID_NAME]
                message["headers"] = [*headers, (_ID_NAME, request_id.encode())]
            await send(message)

        with (
            request_scope(request_id),
            deadline_in(_seconds_left(deadline.decode("latin-1"))),
            trace_scope(traceparent.decode("latin-1")),
            _served(scope) as served,
        ):
            await self._app(scope, receive, send_with_id)


@contextmanager
def _served(scope: Scope) -> Iterator[Span]:
    """The span of one request (HTTP server span of OpenTelemetry's conventions).

    It is named by the route and not by the path, which may hold anything.
    """
    if not is_tracing() or scope["path"] in _UNTRACED_PATHS:
        yield INVALID_SPAN
        return
    method = scope["method"]
    with span(method, kind=SpanKind.SERVER, attributes={"http.request.method": method}) as served:
        try:
            yield served
        finally:
            route = getattr(scope.get("route"), "path", None)
            if route is not None:
                served.update_name(f"{method} {route}")
                served.set_attribute("http.route", route)


def _accepted_id(header: str) -> RequestId:
    """The caller's id if it is short and plain, else one of our own: ids go into logs."""
    is_plain = 0 < len(header) <= 100 and header.isascii() and header.isprintable()
    return RequestId(header if is_plain else secrets.token_hex(16))


def _seconds_left(header: str) -> float:
    """Seconds until a deadline header's time; the maximum when it is empty or malformed."""
    try:
        left = float(header) - time.time() if header else _MAX_REQUEST_S
    except ValueError:
        return _MAX_REQUEST_S
    return min(max(left, 0.0), _MAX_REQUEST_S) if left == left else _MAX_REQUEST_S  # NaN


def problem_response(problem: Problem) -> Response:
    """An RFC 9457 answer."""
    return JSONResponse(problem.model_dump(), problem.status, media_type="application/problem+json")


async def read_body(request: Request, *, limit_bytes: int = MAX_BODY_BYTES) -> bytes:
    """Read a request's body, whatever its content type.

    Raises:
        PayloadTooLarge: It exceeds `limit_bytes`.
        DeadlineExceeded: The client stopped sending.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit_bytes:
                    raise PayloadTooLarge(
                        f"the body exceeds the limit of {limit_bytes} bytes; send less"
                    )
    except TimeoutError as exc:
        raise DeadlineExceeded(f"the body did not arrive within {_BODY_TIMEOUT_S} s") from exc
    return bytes(body)


async def parse_body(
    request: Request, model: TypeAdapter[T], *, limit_bytes: int = MAX_BODY_BYTES
) -> T:
    """Read and validate a request's JSON body under any content type (`curl -d` sends a form).

    Raises:
        InvalidArgument: It is not JSON or does not fit; the detail names field, value and limit.
        PayloadTooLarge: It exceeds `limit_bytes`.
    """
    try:
        return model.validate_json(await read_body(request, limit_bytes=limit_bytes))
    except ValidationError as exc:
        raise InvalidArgument(describe_validation(exc)) from exc


class ClientLeft(Exception):
    """The caller closed its connection; nobody reads the answer."""


async def until_disconnect(request: Request, work: Awaitable[T]) -> T:
    """Do a request's work for as long as its caller is there to hear of it.

    Starlette watches the connection only while it streams an answer. Here a caller that leaves
    cancels the work, so that what it waits for (a model, a tool, another service) ends too.

    Args:
        request: Its body must have been read.
        work: Awaited in this task.

    Raises:
        ClientLeft: The caller left, and the work has ended.
    """
    task = asyncio.current_task()
    assert task is not None, "runs in a request's task"
    has_left = False

    async def watch() -> None:
        nonlocal has_left
        while (await request.receive())["type"] != "http.disconnect":
            pass
        has_left = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if not has_left:
            raise
        task.uncancel()
        raise ClientLeft from None
    finally:
        watcher.cancel()


def describe_validation(exc: ValidationError) -> str:
    """One line that names each bad field, its value (shortened) and what is expected."""
    return _describe(exc.errors(include_url=False))


def _describe(errors: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for error in errors[:5]:
        where = ".".join(str(part) for part in error["loc"]) or "body"
        value = repr(error["input"])
        shown = value if len(value) <= 80 else f"{value[:77]}..."
        parts.append(f"{where}: {error['msg']} (got {shown})")
    return "; ".join(parts)


def create_app(
    *,
    title: str,
    routers: Sequence[APIRouter],
    open_service: Callable[[], AbstractAsyncContextManager[S]],
    check_ready: Callable[[S], Awaitable[None]] | None = None,
) -> FastAPI:
    """Return an app whose lifespan owns one service instance.

    Args:
        title: Name shown in the OpenAPI document.
        routers: Routes of the service; they reach it through `request.state.service`.
        open_service: Builds and, on exit, closes the service.
        check_ready: Raises a `ServiceError` while the service cannot work; `/readyz` calls it.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, S]]:
        async with open_service() as service:
            yield {"service": service}

    # The built-in documentation pages load scripts from a third party's server.
    app = FastAPI(title=title, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(ContextMiddleware)
    for router in routers:
        app.include_router(router)
    _add_error_handlers(app)

    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"])
    async def readyz(request: Request) -> dict[str, str]:
        """The service can work."""
        if check_ready is not None:
            await check_ready(request.state.service)
        return {"status": "ok"}

    return app


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(ServiceError)
    async def on_service_error(_: Request, exc: ServiceError) -> Response:
        if exc.http_status >= 500:
            # A deadline that passed says nothing about our code, and callers choose how many pass.
            trace = None if isinstance(exc, DeadlineExceeded) else exc
            log.warning("request_failed", code=exc.code, detail=exc.detail, exc_info=trace)
        return problem_response(exc.to_problem())

    @app.exception_handler(ClientLeft)
    async def on_client_left(_: Request, __: Exception) -> Response:
        return Response(status_code=_CLIENT_CLOSED_REQUEST)  # for the servers' sake; nobody reads

    @app.exception_handler(RequestValidationError)
    async def on_invalid_request(_: Request, exc: RequestValidationError) -> Response:
        return problem_response(InvalidArgument(_describe(exc.errors())).to_problem())

    @app.exception_handler(HTTPException)
    async def on_http_error(_: Request, exc: HTTPException) -> Response:
        problem = Problem(
            code="http_error", title=str(exc.detail), status=exc.status_code, detail=str(exc.detail)
        )
        return problem_response(problem)

    @app.exception_handler(Exception)
    async def on_defect(request: Request, exc: Exception) -> Response:
        request_id = str(request.scope.get(_SCOPE_KEY))
        log.error("request_crashed", exc_info=exc, request_id=request_id)
        detail = f"an internal error; the log has it under request id {request_id}"
        response = problem_response(Internal(detail).to_problem())
        response.headers[REQUEST_ID_HEADER] = request_id
        return response

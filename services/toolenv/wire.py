"""ToolBench's and StableToolBench's tool server: `POST /rapidapi` and `POST /virtual`.

The reference's own inference client works against these routes unchanged (interop 3.1 to 3.4). A
tool that fails is a reply with HTTP 200 whose `error` text lets that client derive the status we
mean; what is wrong with this service is problem details under 429, 503 or 504, which the client
reports as a failed request. The body is the reference's, so whatever else there is to say about an
answer (who gave it, how old it is) is in `X-Toolwright-*` headers.

Deviations: names that contain `_for_` stay reachable; `chat_with_user` is answered where the
reference's main server crashes; an unknown API is an answer with code 6 and near names instead of a
simulation from an empty document or a crash.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, cast, get_args

import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from pydantic import JsonValue, ValidationError
from pydantic_core import from_json
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from services.contracts.apis import MAX_NAME_CHARS, ApiDocument, ApiRef
from services.contracts.errors import InvalidArgument, ServiceError
from services.contracts.toolbench.names import api_identifier, standardize, standardize_category
from services.contracts.toolenv import (
    MAX_ARGUMENTS_CHARS,
    CallSource,
    CallStatus,
    Observation,
)
from services.kit.app import problem_response, read_body
from services.toolenv.catalog import CatalogueEntry
from services.toolenv.compression import ResponseSchemas, compressed
from services.toolenv.invocation import Invocation, prepare
from services.toolenv.observation import print_reply
from services.toolenv.protocol import (
    CHAT_RESPONSE,
    MAX_RESPONSE_CHARS,
    NOT_WORKING_ERROR,
    PARSE_ERROR,
    classify_as_reference,
    error_of_status,
    is_chat,
    is_known_error,
    names_of_api,
)
from services.toolenv.service import ToolEnvService

log = structlog.get_logger()

_SOURCES: Final = frozenset(get_args(CallSource))
_FIELDS: Final = ("category", "tool_name", "api_name", "tool_input", "strip", "toolbench_key")
_KEY_FIELD: Final = "toolbench_key"
_FROM_A_BACKEND: Final = frozenset({"remote", "simulated", None})
"""Who prints replies in the reference's own words already; `None` is an imported recording."""
_NO_SCHEMAS: Final = ResponseSchemas({})
_KEY_HEADER: Final = b"toolbench_key"


class _Payload(NamedTuple):
    category: str
    tool_name: str
    api_name: str
    arguments_text: str
    strip: str


class _Invalid(Exception):
    """The payload is not ToolBench's; `errors` as pydantic 1, which the reference runs on."""

    def __init__(self, errors: list[JsonValue]) -> None:
        super().__init__(f"{len(errors)} errors")
        self.errors = errors


class _Reply(NamedTuple):
    """An HTTP answer; a plain value, because building a `Response` takes longer than filling it."""

    body: bytes
    observation: Observation | None = None
    status: int = 200

    def headers(self) -> list[tuple[bytes, bytes]]:
        """All of them, as ASGI wants them."""
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(self.body)),
        ]
        return headers if self.observation is None else headers + _labels(self.observation)


def _labels(observation: Observation) -> list[tuple[bytes, bytes]]:
    # Few: the server checks every header with two regular expressions.
    labels = [
        (b"x-toolwright-source", observation.source.encode()),
        (b"x-toolwright-status", observation.status.encode()),
    ]
    if observation.key is not None:
        labels.append((b"x-toolwright-key", observation.key.encode()))
    if observation.source == "replay":
        labels.append((b"x-toolwright-age", b"%.3f" % (observation.age_s or 0.0)))
        labels.append((b"x-toolwright-recorded-source", str(observation.recorded_source).encode()))
        return labels
    optional = (
        (b"x-toolwright-latency", f"{observation.latency_s:.6f}"),
        (b"x-toolwright-upstream-status", observation.upstream_status),
        (b"x-toolwright-retry-after", observation.retry_after_s),
        (b"x-toolwright-overflow-ref", observation.overflow_ref),
        (b"x-toolwright-recorded", observation.is_recorded),
    )
    return labels + [(name, str(value).encode()) for name, value in optional if value is not None]


class WireRouter(APIRouter):
    """The routes, and the same as bare ASGI applications by path (`add_wire`)."""

    def __init__(self) -> None:
        super().__init__(tags=["toolbench"])
        self.direct: dict[str, ASGIApp] = {}

    def add(self, path: str, serve: Callable[[Request], Awaitable[_Reply]], *, about: str) -> None:
        """Add one `POST` route."""

        async def endpoint(request: Request) -> Response:
            reply = await serve(request)
            response = Response(reply.body, reply.status)
            response.raw_headers = reply.headers()
            return response

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            reply = await serve(Request(scope, receive))
            start = {"status": reply.status, "headers": reply.headers()}
            await send({"type": "http.response.start", **start})
            await send({"type": "http.response.body", "body": reply.body})

        self.add_api_route(
            path, endpoint, methods=["POST"], description=about, name=path.strip("/")
        )
        self.direct[path] = app


def wire_router(
    service_of: Callable[[Request], ToolEnvService],
    *,
    schemas: ResponseSchemas | None = None,
    seed: int = 0,
    classifies_as_reference: bool = False,
) -> WireRouter:
    """Return the two routes.

    Args:
        service_of: The service that a request belongs to.
        schemas: For the compression of `/rapidapi`; without them `filter` drops nothing.
        seed: Of the compression `random`.
        classifies_as_reference: `/rapidapi` looks for the reference's substrings in good answers
            too (`classify_as_reference`), for comparing with published numbers.
    """
    router = WireRouter()
    known = schemas or _NO_SCHEMAS

    def python_text(answer: _Answer) -> str:
        return _rapidapi_content(
            answer, schemas=known, seed=seed, classifies=classifies_as_reference
        )

    router.add(
        "/virtual",
        lambda request: _serve(request, service_of, _virtual_content),
        about="StableToolBench's server: `{error, response}`, a recorded reply unchanged.",
    )
    router.add(
        "/rapidapi",
        lambda request: _serve(request, service_of, python_text),
        about="ToolBench's server: `response` is the first 2048 characters of a Python text.",
    )
    return router


class _Shortcut:
    """Hands requests for the wire routes to them directly, past the application's own routing.

    Routing, exit stacks and exception handlers take a third of a replay's time. A request that is
    not exactly `POST <path>` goes the usual way.
    """

    def __init__(self, app: ASGIApp, routes: Mapping[str, ASGIApp]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; see the class."""
        route = self._routes.get(scope["path"]) if scope["type"] == "http" else None
        if route is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            await route(scope, receive, send)
        except ServiceError as exc:
            # As the application's handler does, which is not asked on this way.
            if exc.http_status >= 500:
                log.warning("request_failed", code=exc.code, detail=exc.detail, exc_info=exc)
            await problem_response(exc.to_problem())(scope, receive, send)


def add_wire(app: FastAPI, router: WireRouter) -> None:
    """Add a `wire_router` to an application, with a shortcut inside its middleware.

    Call it before the application serves; middleware added later runs outside the shortcut, as
    that added before does.
    """
    app.include_router(router)
    app.user_middleware.append(Middleware(_Shortcut, routes=router.direct))


async def _serve(
    request: Request,
    service_of: Callable[[Request], ToolEnvService],
    content_of: "Callable[[_Answer], str]",
) -> _Reply:
    try:
        payload = _parse(await read_body(request), request.scope["headers"])
    except _Invalid as exc:
        return _Reply(json.dumps({"detail": exc.errors}).encode(), status=422)
    answer = await _answer(service_of(request), payload, _sources(request))
    if isinstance(answer, str):
        return _Reply(answer.encode())
    return _Reply(content_of(answer).encode(), observation=answer.observation)


class _Answer(NamedTuple):
    invocation: Invocation
    observation: Observation
    strip: str


async def _answer(
    service: ToolEnvService, payload: _Payload, sources: tuple[CallSource, ...] | None
) -> _Answer | str:
    """What was called and came back, or a reply that needs no call."""
    if is_chat(payload.api_name):
        return print_reply("", CHAT_RESPONSE)
    entry = _find(service, payload)
    is_listed = entry is not None
    if entry is None:
        entry = _unlisted(payload)
        # A recording outlives the document of its API; nobody else can answer without one.
        sources = ("replay",) if sources is None or "replay" in sources else None
        if entry is None or sources is None:
            return _unknown(service, payload)
    invocation = prepare(entry, payload.arguments_text)
    if invocation.problem:
        return print_reply(PARSE_ERROR, "")
    observation = await service.execute(invocation, sources)
    if not is_listed and observation.tried is None:
        return _unknown(service, payload)
    return _Answer(invocation, observation, payload.strip)


def _find(service: ToolEnvService, payload: _Payload) -> CatalogueEntry | None:
    for names in names_of_api(payload.category, payload.tool_name, payload.api_name):
        entry = service.find(category_name=names.category, tool_name=names.tool, api_name=names.api)
        if entry is not None:
            return entry
    return None


def _unlisted(payload: _Payload) -> CatalogueEntry | None:
    """An entry for an API that only recordings may know; `None` when it cannot be named."""
    *_, last = names_of_api(payload.category, payload.tool_name, payload.api_name)
    category, tool = standardize_category(last.category), standardize(last.tool)
    api = api_identifier(last.api)
    if not all(0 < len(name) <= MAX_NAME_CHARS for name in (category, tool, api)):
        return None
    try:
        ref = ApiRef(category=category, tool=tool, api=api)
    except ValidationError:  # a category may hold half a surrogate pair
        return None
    return CatalogueEntry(
        ApiDocument(ref=ref, category_name=category, tool_name=tool, api_name=api)
    )


def _unknown(service: ToolEnvService, payload: _Payload) -> str:
    detail = service.describe_missing(
        category=standardize_category(payload.category),
        tool=standardize(payload.tool_name),
        api=api_identifier(payload.api_name),
    )
    # RapidAPI's own words come first: StableToolBench's client code looks for them.
    return print_reply(NOT_WORKING_ERROR, f"API doesn't exists: {detail}")


def _virtual_content(answer: _Answer) -> str:
    """The reply whose `error` text says our status in the reference's words."""
    invocation, observation = answer.invocation, answer.observation
    content = observation.content
    if observation.status is CallStatus.OK:
        return content
    is_replay = observation.source == "replay"
    origin = observation.recorded_source if is_replay else observation.source
    if origin in _FROM_A_BACKEND:
        return content
    reply = _json(content)
    detail, response = str(reply["error"]), reply["response"]
    if is_known_error(detail, observation.status):
        return content
    is_custom = "custom" in (origin, observation.tried)
    ref = invocation.entry.document.ref
    error = error_of_status(observation.status, ref=ref, detail=detail, in_code=is_custom)
    if error is None:
        return content
    # A fixed text says nothing about the cause, so our words take the place of an empty response.
    is_told = detail in error or response != ""
    return print_reply(error, response if is_told else detail)


def _rapidapi_content(
    answer: _Answer, *, schemas: ResponseSchemas, seed: int, classifies: bool
) -> str:
    """The same with a compressed response as Python prints it."""
    reply = _json(_virtual_content(answer))
    error, value = str(reply["error"]), reply["response"]
    if classifies and not error:
        error = classify_as_reference(str(value))
    value = compressed(
        value,
        strip=answer.strip,
        schema=schemas.get(answer.invocation.entry.document.ref),
        key=answer.invocation.key or "",
        seed=seed,
    )
    return print_reply(error, str(value)[:MAX_RESPONSE_CHARS])


def _json(content: str) -> dict[str, JsonValue]:
    # Holds because every observation's content is a printed `{"error", "response"}` object.
    return cast(dict[str, JsonValue], json.loads(content))


def _sources(request: Request) -> tuple[CallSource, ...] | None:
    """Sources that the query `?sources=replay,live` names; `None` when it names none."""
    if not request.scope["query_string"]:
        return None
    text = request.query_params.get("sources")
    if text is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    unknown = [name for name in names if name not in _SOURCES]
    if unknown:
        raise InvalidArgument(
            f"sources {unknown[0][:80]!r} is not one of {', '.join(sorted(_SOURCES))}"
        )
    # Holds: each is a member of `CallSource`.
    return cast(tuple[CallSource, ...], names)


def _parse(body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> _Payload:
    try:
        fields = _decode(body)
    except (ValueError, RecursionError) as exc:
        raise _Invalid([_error(str(exc), "value_error.jsondecode")]) from exc
    if not isinstance(fields, dict):
        raise _Invalid([_error("value is not a valid dict", "type_error.dict")])
    if _KEY_FIELD not in fields and any(name == _KEY_HEADER for name, _ in headers):
        fields[_KEY_FIELD] = ""
    if isinstance(fields.get("tool_input"), dict):
        fields["tool_input"] = _printed(fields["tool_input"])
    errors = _errors(fields)
    if errors:
        raise _Invalid(errors)
    return _Payload(
        category=fields["category"],
        tool_name=fields["tool_name"],
        api_name=fields["api_name"],
        arguments_text=fields["tool_input"],
        strip=fields["strip"],
    )


def _decode(body: bytes) -> Any:
    try:
        return from_json(body)
    except ValueError:  # three times as fast, but stricter than what the reference reads
        return json.loads(body)


def _printed(value: dict[str, JsonValue]) -> str:
    try:
        return json.dumps(value)
    except RecursionError as exc:
        raise _Invalid([_error("nested too deeply", "value_error", "tool_input")]) from exc


def _errors(fields: Mapping[str, JsonValue]) -> list[JsonValue]:
    found: list[JsonValue] = []
    for name in _FIELDS:
        value = fields.get(name)
        if isinstance(value, str) and len(value) <= MAX_ARGUMENTS_CHARS:
            continue
        if name not in fields:
            found.append(_error("field required", "value_error.missing", name))
        elif value is None:
            message = "none is not an allowed value"
            found.append(_error(message, "type_error.none.not_allowed", name))
        elif isinstance(value, str):
            message = f"ensure this value has at most {MAX_ARGUMENTS_CHARS} characters"
            found.append(_error(message, "value_error.any_str.max_length", name))
        else:
            found.append(_error("str type expected", "type_error.str", name))
    return found


def _error(message: str, kind: str, *where: str) -> JsonValue:
    return {"loc": ["body", *where], "msg": message, "type": kind}

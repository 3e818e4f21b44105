import asyncio
import json
from dataclasses import dataclass, field, replace

import mcp_types as types
import pytest
from pydantic import JsonValue

from services.contracts.apis import ApiDocument, ApiParameter, ApiRef
from services.contracts.context import deadline_in
from services.contracts.toolenv import CallStatus
from services.toolenv.catalog import CatalogueEntry
from services.toolenv.egress.redaction import Redactor
from services.toolenv.endpoints import McpEndpoint
from services.toolenv.executors.base import Declined
from services.toolenv.executors.mcp import McpCaller
from services.toolenv.invocation import prepare
from services.toolenv.mcp_servers import McpProblem

Reply = types.CallToolResult | types.InputRequiredResult


@dataclass
class FakeServers:
    """Answers every call alike and remembers the last one."""

    reply: Reply | McpProblem
    calls: list[tuple[str, str, dict[str, JsonValue], float]] = field(default_factory=list)

    def redactor(self, server: str) -> Redactor:
        return Redactor(["s3cret-of-the-server"])

    async def call(
        self, server: str, tool: str, arguments: dict[str, JsonValue], *, limit_s: float
    ) -> Reply:
        self.calls.append((server, tool, arguments, limit_s))
        if isinstance(self.reply, McpProblem):
            raise self.reply
        return self.reply


ENTRY = CatalogueEntry(
    ApiDocument(
        ref=ApiRef(category="MCP", tool="weather", api="get_forecast"),
        category_name="MCP",
        tool_name="weather",
        api_name="get-Forecast",
        required_parameters=(ApiParameter(name="City Name"),),
        optional_parameters=(ApiParameter(name="from"), ApiParameter(name="maxDays")),
    ),
    endpoint=McpEndpoint(server="weather", tool="get-Forecast"),
)


def answer(text: str, **more: object) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)], **more)  # type: ignore[arg-type]


def call(servers: FakeServers, arguments: str = "{}", entry: CatalogueEntry = ENTRY) -> object:
    return asyncio.run(McpCaller(servers).call(prepare(entry, arguments)))


def test_arguments_are_sent_under_the_names_that_the_server_declared() -> None:
    servers = FakeServers(answer("sunny"))
    seen = call(servers, '{"city_name": "Bonn", "is_from": 1, "maxdays": 2}')
    ((server, tool, arguments, _),) = servers.calls
    assert (server, tool) == ("weather", "get-Forecast")
    assert arguments == {"City Name": "Bonn", "from": 1, "maxDays": 2}
    assert (seen.status, seen.source) == (CallStatus.OK, "live")
    assert json.loads(seen.content) == {"error": "", "response": "sunny"}


def test_the_request_deadline_shortens_the_wait() -> None:
    servers = FakeServers(answer("sunny"))

    async def body() -> None:
        with deadline_in(3):
            await McpCaller(servers, call_timeout_s=60).call(prepare(ENTRY, "{}"))

    asyncio.run(body())
    assert 2 < servers.calls[0][3] <= 3


def test_an_error_of_the_tool_is_a_tool_error_in_its_own_words() -> None:
    seen = call(FakeServers(answer("no such city", is_error=True)))
    assert seen.status is CallStatus.TOOL_ERROR
    assert json.loads(seen.content)["error"] == "no such city"


@pytest.mark.parametrize(
    "reply",
    [
        answer("key s3cret-of-the-server"),
        answer('{"key": "s3cret-of-the-server"}'),
        answer("bad key s3cret-of-the-server", is_error=True),
        McpProblem(CallStatus.REQUEST_FAILED, "it said s3cret-of-the-server", is_sent=True),
        McpProblem(CallStatus.REQUEST_FAILED, "it said s3cret-of-the-server", is_sent=False),
    ],
)
def test_a_secret_that_the_server_was_given_comes_back_to_nobody(
    reply: Reply | McpProblem,
) -> None:
    seen = repr(call(FakeServers(reply)))
    assert "s3cret" not in seen
    assert "[redacted]" in seen


def test_a_tool_that_wants_to_ask_its_user_is_a_tool_error() -> None:
    seen = call(FakeServers(types.InputRequiredResult(request_state="x")))
    assert seen.status is CallStatus.TOOL_ERROR and "input" in seen.content


@pytest.mark.parametrize(
    "status", [CallStatus.API_NOT_WORKING, CallStatus.REQUEST_FAILED, CallStatus.TOOL_ERROR]
)
def test_a_call_that_was_not_sent_is_declined_so_that_the_next_source_is_asked(
    status: CallStatus,
) -> None:
    seen = call(FakeServers(McpProblem(status, "it did not start", is_sent=False)))
    assert seen == Declined("it did not start")


@pytest.mark.parametrize(
    ("status", "is_sent", "source"),
    [
        (CallStatus.TIMEOUT, False, "error"),
        (CallStatus.TIMEOUT, True, "error"),
        (CallStatus.REQUEST_FAILED, True, "error"),
        (CallStatus.OUTPUT_LIMIT, True, "error"),
        (CallStatus.UNAUTHORIZED, False, "error"),
        (CallStatus.TOOL_ERROR, True, "live"),
        (CallStatus.INVALID_ARGUMENTS, True, "live"),
    ],
)
def test_every_other_failure_is_an_observation_with_its_status(
    status: CallStatus, is_sent: bool, source: str
) -> None:
    seen = call(FakeServers(McpProblem(status, "words", is_sent=is_sent)))
    assert (seen.status, seen.source) == (status, source)
    assert "words" in seen.content


def test_an_entry_of_another_kind_is_declined() -> None:
    servers = FakeServers(answer("sunny"))
    assert isinstance(call(servers, entry=replace(ENTRY, endpoint=None)), Declined)
    assert servers.calls == []

"""A search over an API that really changes: orders are made, and cancelled when it goes back."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from cli.__main__ import app
from services.contracts.apis import ApiRef
from services.contracts.compat import TOOLBENCH
from services.contracts.llm import Message
from services.contracts.planner import SolveRequest, ToolStarted
from services.planner.service import PlannerService
from services.toolenv.admission import Admission
from services.toolenv.catalog import load_catalogue
from services.toolenv.chain import Chain
from services.toolenv.egress.transport import GuardedTransport, NameService
from services.toolenv.endpoints import HttpEndpoint
from services.toolenv.executors.http import HttpCaller
from services.toolenv.executors.live import LiveExecutor
from services.toolenv.executors.providers import Providers
from services.toolenv.registry import Registry
from services.toolenv.service import ToolEnvService
from tests.fakes.gateway import gateway_app
from tests.fakes.live_api import Keyring, LiveApi, Received, answer, serve_api
from tests.fakes.loopback import serve
from tests.fakes.planner_ports import ScriptedModel, end_of, events_of, give_up, reply
from tests.fakes.planner_ports import answer as final_answer

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

CREATE, CANCEL, LOG, STATUS = (
    ApiRef(category="Shop", tool="orders", api=api) for api in ("create", "cancel", "log", "status")
)
ALL = (CREATE, CANCEL, LOG, STATUS)


class Orders:
    """What the shop behind the API holds."""

    def __init__(self) -> None:
        self.open: dict[int, str] = {}
        self.logged = 0
        self._last = 0

    async def create(self, request: Received, writer: asyncio.StreamWriter) -> None:
        self._last += 1
        self.open[self._last] = json.loads(request.body)["item"]
        await answer(json.dumps({"order": {"id": self._last}}))(request, writer)

    async def cancel(self, request: Received, writer: asyncio.StreamWriter) -> None:
        del self.open[int(json.loads(request.body)["id"])]
        await answer('{"ok": true}')(request, writer)

    async def log(self, request: Received, writer: asyncio.StreamWriter) -> None:
        self.logged += 1
        await answer('{"ok": true}')(request, writer)

    async def status(self, request: Received, writer: asyncio.StreamWriter) -> None:
        await answer(json.dumps({"open": len(self.open)}))(request, writer)


def document(url: str) -> dict[str, object]:
    def api(name: str, method: str, *names: str, **more: object) -> dict[str, object]:
        parameters = [{"name": each, "place": "body"} for each in names]
        http = {"method": method, "url": f"{url}/{name}", "parameters": parameters}
        types = {"id": "NUMBER"}
        required = [{"name": each, "type": types.get(each, "STRING")} for each in names]
        extension = {"http": http, **more}
        return {
            "name": name,
            "method": method,
            "required_parameters": required,
            "x-toolwright": extension,
        }

    inverse = {"api": "cancel", "arguments": {"id": "$response.order.id"}}
    return {
        "tool_name": "Orders",
        "api_list": [
            api("create", "POST", "item", inverse=inverse),
            api("cancel", "POST", "id"),
            api("log", "POST", "item", side_effect="irreversible"),
            api("status", "GET"),
        ],
    }


@asynccontextmanager
async def shop(folder: Path) -> AsyncIterator[tuple[Orders, LiveApi, ToolEnvService]]:
    """The shop, what it received, and the tool environment in front of it."""
    orders = Orders()
    behaviours = {name: getattr(orders, name) for name in ("create", "cancel", "log", "status")}
    async with serve_api(**behaviours) as api:
        path = folder / "Shop" / "orders.json"
        path.parent.mkdir()
        path.write_text(json.dumps(document(api.url)), encoding="utf-8")
        allowed = frozenset({f"127.0.0.1:{api.port}"})
        async with GuardedTransport(names=NameService(allow_private=allowed)) as transport:
            caller = HttpCaller(
                transport, credentials=Keyring(), providers=Providers(), clear_hosts=allowed
            )
            chain = Chain([LiveExecutor({HttpEndpoint: caller})], order=("live",))
            yield (
                orders,
                api,
                ToolEnvService(
                    registry=Registry.fixed(load_catalogue([folder])),
                    chain=chain,
                    admission=Admission(max_running=4, max_waiting=4),
                ),
            )


def step(api: str, **arguments: str) -> Message:
    return reply((f"{api}_for_orders", json.dumps(arguments)), thought="go on")


def request(**changes: object) -> SolveRequest:
    values: dict[str, object] = {"instruction": "buy tea", "apis": ALL, "allow_writes": True}
    return SolveRequest.model_validate(values | changes)


BRANCHES = [
    reply(
        ("log_for_orders", '{"item": "tea"}'),
        ("create_for_orders", '{"item": "tea"}'),
        ("status_for_orders", "{}"),
    ),
    give_up(),
    reply(
        ("log_for_orders", '{"item": "tea"}'),
        ("status_for_orders", "{}"),
        ("create_for_orders", '{"item": "milk"}'),
    ),
    final_answer("milk is ordered"),
]


async def test_the_shop_holds_what_the_answers_branch_did_and_nothing_else(tmp_path: Path) -> None:
    async with shop(tmp_path) as (orders, api, toolenv):
        planner = PlannerService(model=ScriptedModel(BRANCHES), toolenv=toolenv, retriever=None)
        events = await events_of(planner, request())
    assert (orders.open, orders.logged) == ({2: "milk"}, 1)
    expected = ["/log", "/create", "/status", "/cancel", "/status", "/create"]
    assert api.paths() == expected
    assert [e.compensates for e in events if isinstance(e, ToolStarted) and e.compensates] == [2]
    end = end_of(events)
    assert (end.kind, end.tool_calls, end.reused_observations) == ("answered", 6, 1)


async def test_a_run_that_may_not_change_anything_reaches_reads_only(tmp_path: Path) -> None:
    async with shop(tmp_path) as (orders, api, toolenv):
        planner = PlannerService(model=ScriptedModel(BRANCHES), toolenv=toolenv, retriever=None)
        await events_of(planner, request(allow_writes=False))
    assert (orders.open, orders.logged, api.paths()) == ({}, 0, ["/status"])


async def test_the_reference_leaves_every_branchs_changes_behind(tmp_path: Path) -> None:
    async with shop(tmp_path) as (orders, _, toolenv):
        planner = PlannerService(model=ScriptedModel(BRANCHES), toolenv=toolenv, retriever=None)
        await events_of(planner, request(compat=TOOLBENCH, allow_writes=False))
    assert (orders.open, orders.logged) == ({1: "tea", 2: "milk"}, 2)


@pytest.mark.parametrize(("said", "ordered"), [("y\n", {1: "tea"}), ("n\n", {}), ("", {})])
async def test_whoever_asks_on_a_terminal_is_asked_before_something_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, ordered: dict[int, str]
) -> None:
    model = ScriptedModel([step("create", item="tea"), final_answer("done")])
    async with shop(tmp_path) as (orders, _, toolenv):
        planner = PlannerService(model=model, toolenv=toolenv, retriever=None)
        async with serve(gateway_app(planner, toolenv=toolenv, control=planner)) as url:
            monkeypatch.setenv("TOOLWRIGHT_URL", url)
            words = ["ask", "buy tea", "--approve", "--api", str(CREATE)]
            told = await asyncio.to_thread(CliRunner().invoke, app, words, input=said)
    assert (told.exit_code, orders.open) == (0, ordered)
    assert f"allow {CREATE} (write)" in told.output


async def test_a_decision_about_no_waiting_call_is_not_found(tmp_path: Path) -> None:
    async with shop(tmp_path) as (_, _, toolenv):
        planner = PlannerService(model=ScriptedModel([]), toolenv=toolenv, retriever=None)
        async with (
            serve(gateway_app(planner, toolenv=toolenv, control=planner)) as url,
            httpx.AsyncClient(base_url=url) as http,
        ):
            answer = await http.post("/v1/runs/nobody/calls/1", json={"approve": True})
    assert answer.status_code == 404

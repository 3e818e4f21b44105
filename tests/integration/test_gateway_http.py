"""The gateway over real HTTP on loopback, with a planner that plays written runs."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from services.contracts.errors import InvalidArgument, Unavailable
from services.contracts.planner import PlanEvent
from tests.fakes.gateway import gateway_app, script_of
from tests.fakes.loopback import serve
from tests.fakes.planner import FakePlanner

pytestmark = pytest.mark.anyio

_SOON_S = 1.0


@pytest.fixture
def planner() -> FakePlanner:
    return FakePlanner(script=script_of)


@pytest.fixture
async def http(planner: FakePlanner) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serve(gateway_app(planner, max_runs=32)) as url,
        httpx.AsyncClient(base_url=url, timeout=20) as client,
    ):
        yield client


def body(text: str = "hi", **changes: object) -> dict[str, object]:
    return {"text": text, "top_k": 5, "method": "DFS_woFilter_w2"} | changes


def lines_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.split("\n")]


def final_answer(line: dict) -> str:
    return json.loads(line["output"])["final_answer"]


# The stream of ToolBench


async def test_the_stream_of_the_example_has_its_36_lines_and_no_newline_at_the_end(http):
    answer = await http.post("/stream", json=body("say hello"))
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert not answer.text.endswith("\n")
    lines = lines_of(answer.text)
    assert len(lines) == 36
    assert final_answer(lines[-1]) == "hello world"


async def test_the_first_line_comes_before_the_planner_says_anything(http, planner):
    planner.hold()
    async with http.stream("POST", "/stream", json=body()) as answer:
        began = time.monotonic()
        first = await anext(answer.aiter_lines())
        assert json.loads(first)["method_name"] == "on_tool_retrieval_start"
        assert time.monotonic() - began < _SOON_S
        assert planner.runs[0].events == 0
        planner.release()


async def test_each_line_is_sent_when_it_happens(http, planner):
    planner.hold(after=1)
    async with http.stream("POST", "/stream", json=body()) as answer:
        lines = answer.aiter_lines()
        early = [json.loads(await anext(lines))["method_name"] for _ in range(2)]
        assert early == ["on_tool_retrieval_start", "on_tool_retrieval_end"]
        planner.release()
        rest = [line async for line in lines]
    assert json.loads(rest[-1])["method_name"] == "on_request_end"


async def test_a_get_with_a_body_is_served_as_in_the_reference(http):
    answer = await http.request("GET", "/stream", json=body("ping"))
    assert final_answer(lines_of(answer.text)[-1]) == "ping"


async def test_the_body_is_read_whatever_its_content_type(http):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await http.post("/stream", content=json.dumps(body("ping")), headers=form)
    assert final_answer(lines_of(answer.text)[-1]) == "ping"


async def test_unknown_fields_of_the_old_interface_are_ignored(http):
    answer = await http.post("/stream", json=body("ping", session="abc"))
    assert answer.status_code == 200


async def test_the_request_reaches_the_planner(http, planner):
    await http.post("/stream", json=body("count", top_k=7, method="react"))
    request = planner.runs[0].request
    assert (request.instruction, request.top_k, request.method) == ("count", 7, "CoT@1")


async def test_twenty_runs_at_once_keep_apart_and_interleave(http, planner):
    planner.pause_s = 0.02
    seen: list[int] = []

    async def run(number: int) -> None:
        last = ""
        async with http.stream("POST", "/stream", json=body(f"word {number}")) as answer:
            async for line in answer.aiter_lines():
                seen.append(number)
                last = line
        assert final_answer(json.loads(last)) == f"word {number}"

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(run(number))
    spans = [(seen.index(n), len(seen) - seen[::-1].index(n)) for n in range(20)]
    overlapping = [start for start, _ in spans if start < min(end for _, end in spans)]
    assert len(overlapping) >= 5


async def test_a_client_that_leaves_cancels_its_run(http, planner):
    planner.hold(after=1)
    async with http.stream("POST", "/stream", json=body()) as answer:
        await anext(answer.aiter_lines())
    run = await planner.wait_closed(within_s=_SOON_S)
    assert not run.finished


async def test_a_client_that_leaves_frees_its_place(planner):
    async with (
        serve(gateway_app(planner, max_runs=1)) as url,
        httpx.AsyncClient(base_url=url, timeout=20) as http,
    ):
        planner.hold(after=1)
        async with http.stream("POST", "/v1/runs", json=body()):
            await planner.wait_started()
        await planner.wait_closed(within_s=_SOON_S)
        planner.release()
        assert (await http.post("/v1/runs", json=body())).status_code == 200


async def test_a_client_that_leaves_before_the_first_event_cancels_its_run(http, planner):
    planner.hold()
    asking = asyncio.create_task(http.post("/v1/runs", json=body()))
    await planner.wait_started()
    asking.cancel()
    assert not (await planner.wait_closed(within_s=_SOON_S)).finished


@pytest.mark.parametrize("path", ["/stream", "/v1/runs"])
async def test_a_run_beyond_the_limit_gets_429_before_any_line(path, planner):
    async with (
        serve(gateway_app(planner, max_runs=2)) as url,
        httpx.AsyncClient(base_url=url, timeout=20) as http,
    ):
        planner.hold()
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(http.post("/stream", json=body())) for _ in range(2)]
            await planner.wait_started(2)
            refused = await http.post(path, json=body())
            planner.release()
        assert [task.result().status_code for task in running] == [200, 200]
        assert refused.status_code == 429
        assert "limit is 2" in refused.json()["detail"]


async def test_many_requests_at_once_cannot_take_the_last_place_twice(planner):
    async with (
        serve(gateway_app(planner, max_runs=3)) as url,
        httpx.AsyncClient(base_url=url, timeout=20) as http,
    ):
        planner.pause_s = 0.05
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(http.post("/stream", json=body())) for _ in range(12)]
        codes = sorted(task.result().status_code for task in tasks)
        assert codes == [200] * 3 + [429] * 9


async def test_a_run_is_named_and_acted_upon_under_its_name(planner):
    async with (
        serve(gateway_app(planner)) as url,
        httpx.AsyncClient(base_url=url, timeout=20) as http,
    ):
        named = await http.post("/v1/runs", json=body(run_id="mine"))
        unnamed = await http.post("/stream", json=body())
        refused = await http.post("/v1/runs/mine/cancel")
    assert named.headers["X-Run-Id"] == planner.runs[0].request.run_id == "mine"
    assert unnamed.headers["X-Run-Id"] == planner.runs[1].request.run_id
    assert refused.status_code == 409  # this planner takes no orders


async def test_a_clients_limits_hold_below_the_gateways_own(http, planner):
    limits = {"max_llm_calls": 5, "deadline_s": 80_000, "max_tokens": 1000}
    await http.post("/v1/runs", json=body(limits=limits, mode="parallel", show_budget=True))
    request = planner.runs[0].request
    asked = request.limits
    assert (asked.max_llm_calls, asked.deadline_s, asked.max_tokens) == (5, 300, 1000)
    assert (asked.max_depth, request.mode, request.show_budget) == (12, "parallel", True)


async def test_streams_are_described_as_lines_of_json(http):
    paths = (await http.get("/openapi.json")).json()["paths"]
    for path in ("/stream", "/v1/runs"):
        assert list(paths[path]["post"]["responses"]["200"]["content"]) == ["application/x-ndjson"]


# Failures


async def test_a_failing_planner_becomes_an_error_line(http, planner):
    planner.error = Unavailable("the planner at 10.0.0.7 does not answer")
    lines = lines_of((await http.post("/stream", json=body())).text)
    assert lines[-1]["block_id"] == "error"
    assert "10.0.0.7 does not answer" in lines[-1]["error"]


async def test_a_defect_of_the_planner_becomes_an_error_line(http, planner):
    planner.error = ZeroDivisionError("a defect")
    lines = lines_of((await http.post("/stream", json=body())).text)
    assert lines[-1]["method_name"] == "on_request_error"


async def test_a_stream_that_ends_without_a_result_becomes_an_error_line(http, planner):
    planner.script = lambda text: script_of(text)[:3]
    lines = lines_of((await http.post("/stream", json=body())).text)
    assert "without a result" in lines[-1]["error"]


async def test_a_run_without_an_answer_becomes_an_error_line(http):
    lines = lines_of((await http.post("/stream", json=body("nothing"))).text)
    assert "gave up" in lines[-1]["error"]


async def test_what_the_planner_refuses_is_a_problem_in_our_own_protocol(http, planner):
    planner.error = InvalidArgument("no prompt profile 'nope'")
    refused = await http.post("/v1/runs", json=body(prompts="nope"))
    assert refused.status_code == 400
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["detail"] == "no prompt profile 'nope'"


async def test_a_planner_that_fails_on_the_way_is_a_failure_frame_in_our_own_protocol(
    http, planner
):
    def breaking_off(text: str) -> Iterator[PlanEvent]:
        yield script_of(text)[0]
        raise Unavailable("gone")

    planner.script = breaking_off
    first, last = lines_of((await http.post("/v1/runs", json=body())).text.strip())
    assert first["kind"] == "retrieved"
    assert last["stream_failure"] is True
    assert last["problem"]["code"] == "unavailable"


async def test_our_own_protocol_carries_the_planners_events(http):
    answer = await http.post("/v1/runs", json=body("ping"))
    events = lines_of(answer.text.strip())
    assert [event["sequence"] for event in events] == list(range(len(events)))
    assert (events[0]["kind"], events[-1]["kind"]) == ("retrieved", "answered")
    assert events[-1]["answer"] == "ping"


# Bad input: the value, the limit and the fix

_REF = {"category": "No", "tool": "such", "api": "thing"}


@pytest.mark.parametrize("path", ["/stream", "/v1/runs"])
@pytest.mark.parametrize(
    ("sent", "named"),
    [
        (body(method="NOPE"), ["'NOPE'", "CoT@N", "DFS_woFilter_wN"]),
        (body(method="CoT@0"), ["'CoT@0'", "1..100"]),
        (body(""), ["text", "empty", "send the instruction"]),
        (body(" \n\t"), ["text", "empty"]),
        (body("x" * 32_769), ["text", "32768"]),
        (body(top_k=0), ["top_k", "greater than or equal to 1", "got 0"]),
        (body(top_k=10**9), ["top_k", "less than or equal to 100", "1000000000"]),
        (body(top_k="many"), ["top_k", "integer", "'many'"]),
        (body(top_k=True), ["top_k", "a number is expected", "True"]),
        ({"top_k": 5}, ["text", "required"]),
        ([1, 2], ["body", "[1, 2]"]),
    ],
)
async def test_a_bad_field_is_named_with_its_limit(http, planner, path, sent, named):
    answer = await http.post(path, json=sent)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert [part for part in named if part not in answer.json()["detail"]] == []
    assert planner.runs == []


@pytest.mark.parametrize("content", [b"", b"not json", b"\xff\xfe", b'{"text": "x"', b"[" * 5000])
async def test_a_body_that_is_not_json_is_refused(http, content):
    answer = await http.post("/stream", content=content)
    assert answer.status_code == 400
    assert "JSON" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/stream", "/v1/runs", "/v1/retrieve", "/v1/tools/call"])
async def test_ten_megabytes_of_text_are_refused_and_the_service_stays_up(http, path):
    answer = await http.post(path, json=body("x" * 10_000_000))
    assert answer.status_code == 413
    assert "1048576 bytes" in answer.json()["detail"]
    assert (await http.get("/healthz")).status_code == 200


async def test_an_unknown_api_of_a_run_is_named_before_the_stream_starts(http, planner):
    answer = await http.post("/v1/runs", json=body(apis=[_REF]))
    assert answer.status_code == 400
    assert "'No/such/thing'" in answer.json()["detail"]
    assert "toolwright tools list" in answer.json()["detail"]
    assert planner.runs == []


async def test_an_unknown_api_of_a_call_is_named(http):
    answer = await http.post("/v1/tools/call", json={"api": _REF, "arguments_text": "{}"})
    assert answer.status_code == 404
    assert "'No/such/thing'" in answer.json()["detail"]


async def test_an_unknown_api_of_the_catalogue_is_named(http):
    answer = await http.get("/v1/tools/No/such/thing")
    assert answer.status_code == 404
    assert "'No/such/thing'" in answer.json()["detail"]


async def test_the_catalogue_comes_in_pages_that_say_how_many_there_are(http):
    whole = await http.get("/v1/tools")
    second = await http.get("/v1/tools", params={"offset": 1, "limit": 1})
    assert whole.headers["x-total-count"] == second.headers["x-total-count"] == "2"
    assert second.json() == whole.json()[1:]


async def test_several_calls_in_one_request_are_answered_in_order(http):
    refs = [document["ref"] for document in (await http.get("/v1/tools")).json()]
    calls = [{"api": ref, "arguments_text": "{}"} for ref in refs]
    results = (await http.post("/v1/tools/call-many", json=calls)).json()
    assert [result["observation"]["status"] for result in results] == ["ok", "ok"]


async def test_a_call_may_name_who_answers_and_nobody_else(http):
    ref = (await http.get("/v1/tools")).json()[0]["ref"]
    call = {"api": ref, "arguments_text": "{}", "sources": ["oracle"]}
    answer = await http.post("/v1/tools/call", json=call)
    assert answer.status_code == 400
    assert "'oracle'" in answer.json()["detail"]


async def test_the_health_of_every_api_is_served(http):
    health = (await http.get("/v1/tools/health")).json()
    assert {entry["state"] for entry in health} == {"unknown"}


async def test_a_reload_says_what_changed(http):
    answer = await http.post("/v1/tools/reload")
    assert answer.json() == {"added": [], "removed": [], "changed": [], "refused": []}


async def test_an_address_longer_than_any_is_refused_with_the_limit(http):
    answer = await http.get(f"/v1/tools/A/b/{'c' * 600}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_argument")
    assert "512" in answer.json()["detail"]


async def test_an_unknown_path_gets_a_problem_too(http):
    answer = await http.get("/nothing/here")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


# Browsers


@pytest.mark.parametrize("path", ["/stream", "/v1/runs", "/v1/tools/call"])
async def test_a_foreign_page_is_refused(http, planner, path):
    answer = await http.post(path, json=body(), headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403
    assert "GATEWAY_ALLOWED_ORIGINS" in answer.json()["detail"]
    assert planner.runs == []


async def test_the_gateways_own_page_is_served(http):
    origin = str(http.base_url).rstrip("/")
    answer = await http.post("/stream", json=body(), headers={"Origin": origin})
    assert answer.status_code == 200


async def test_an_allowed_origin_may_read_the_answer(planner):
    origin = "http://localhost:3000"
    async with (
        serve(gateway_app(planner, origins=(origin,))) as url,
        httpx.AsyncClient(base_url=url, timeout=20) as http,
    ):
        wish = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        asked = await http.options("/stream", headers=wish)
        answer = await http.post("/stream", json=body(), headers={"Origin": origin})
    assert asked.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html"),
        ("/static/page.js", "text/javascript"),
        ("/static/view.js", "text/javascript"),
        ("/static/parts.js", "text/javascript"),
        ("/static/page.css", "text/css"),
    ],
)
async def test_the_page_may_load_and_run_nothing_but_itself(http, path, media_type):
    answer = await http.get(path)
    assert answer.headers["content-type"].startswith(media_type)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fapp.py", "%2e%2e/app.py", "index.html"])
async def test_only_the_pages_own_files_are_served(http, name):
    assert (await http.get(f"/static/{name}")).status_code == 404


# What there is


async def test_methods_are_listed(http):
    assert (await http.get("/methods")).json() == {"methods": ["DFS_woFilter_w2", "CoT@1"]}


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_is_served(http, path):
    assert (await http.get(path)).status_code == 200


async def test_the_openapi_document_lists_the_routes_and_their_bodies(http):
    document = (await http.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.")
    assert set(document["paths"]) >= {
        "/stream",
        "/methods",
        "/v1/runs",
        "/v1/retrieve",
        "/v1/tools",
        "/v1/tools/{category}/{tool}/{api}",
        "/v1/tools/call",
        "/v1/tools/call-many",
        "/v1/tools/health",
        "/v1/tools/reload",
        "/healthz",
        "/readyz",
    }
    post = document["paths"]["/stream"]["post"]
    schema = post["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == {"text", "top_k", "method", "sources"}
    assert "application/x-ndjson" in post["responses"]["200"]["content"]


async def test_every_reference_in_the_openapi_document_resolves(http):
    document = (await http.get("/openapi.json")).json()
    text = json.dumps(document)
    targets = {part.split('"')[0] for part in text.split('"$ref": "')[1:]}
    assert targets  # what FastAPI describes itself
    unresolved = [target for target in targets if not _resolves(document, target)]
    assert unresolved == []


def _resolves(document: dict, target: str) -> bool:
    place: object = document
    for part in target.removeprefix("#/").split("/"):
        place = place.get(part) if isinstance(place, dict) else None
    return place is not None

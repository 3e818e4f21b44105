"""What every service answers: context, limits, problems, health."""

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import APIRouter, Request
from pydantic import BaseModel, TypeAdapter

from services.contracts.context import current_request_id, remaining_s
from services.contracts.errors import NotFound, ResourceExhausted, Unavailable
from services.kit.app import MAX_BODY_BYTES, create_app, parse_body
from tests.fakes.loopback import serve

pytestmark = pytest.mark.anyio
DAY_S = 86_400.0


class Order(BaseModel):
    count: int
    note: str = ""


class Shop:
    """A service whose readiness a test sets; knows whether it was closed."""

    def __init__(self) -> None:
        self.is_ready = True
        self.is_closed = False

    async def check(self) -> None:
        if not self.is_ready:
            raise Unavailable("the shop is closed")


router = APIRouter()
_ORDER = TypeAdapter(Order)
_ERRORS = {
    "missing": NotFound("no such thing"),
    "full": ResourceExhausted("the queue holds 8 of 8"),
    "defect": KeyError("secret internals"),
}


@router.post("/orders")
async def order(request: Request) -> Order:
    return await parse_body(request, _ORDER)


@router.get("/context")
async def context(request: Request) -> dict[str, object]:
    return {"id": current_request_id(), "left_s": remaining_s(at_most_s=1e9)}


@router.get("/fail/{kind}")
async def fail(kind: str) -> None:
    raise _ERRORS[kind]


@router.get("/typed")
async def typed(n: int) -> int:
    return n


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
async def http(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    @asynccontextmanager
    async def open_shop() -> AsyncIterator[Shop]:
        yield shop
        shop.is_closed = True

    app = create_app(
        title="shop", routers=[router], open_service=open_shop, check_ready=lambda s: s.check()
    )
    async with serve(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        yield client


def problem(response: httpx.Response) -> tuple[int, str, str]:
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert set(body) == {"code", "title", "status", "detail"}
    assert body["status"] == response.status_code
    return response.status_code, body["code"], body["detail"]


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded"])
async def test_a_body_is_parsed_under_any_content_type(
    http: httpx.AsyncClient, content_type: str
) -> None:
    response = await http.post(
        "/orders", content=b'{"count": 2}', headers={"content-type": content_type}
    )
    assert response.json() == {"count": 2, "note": ""}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"not json", "Invalid JSON"),
        (b"", "Invalid JSON"),
        (b"\xff\xfe", "body"),
        (b'{"count": "many"}', "count: .*'many'"),
        (b'{"note": "x"}', "count: Field required"),
        (b"[]", "body: "),
    ],
)
async def test_bad_input_is_a_problem_that_names_it(
    http: httpx.AsyncClient, body: bytes, named: str
) -> None:
    status, code, detail = problem(await http.post("/orders", content=body))
    assert (status, code) == (400, "invalid_argument")
    assert re.search(named, detail)


async def test_a_long_value_is_shortened(http: httpx.AsyncClient) -> None:
    _, _, detail = problem(await http.post("/orders", json={"count": "x" * 10_000}))
    assert len(detail) < 300
    assert "..." in detail


@pytest.mark.parametrize(("extra", "status"), [(0, 200), (1, 413)])
async def test_the_body_limit_is_exact(http: httpx.AsyncClient, extra: int, status: int) -> None:
    frame = b'{"count": 1, "note": "%s"}'
    body = frame % (b"x" * (MAX_BODY_BYTES - len(frame) + 2 + extra))
    assert len(body) == MAX_BODY_BYTES + extra
    assert (await http.post("/orders", content=body)).status_code == status


async def test_a_body_over_the_limit_is_refused_while_it_arrives(http: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 200:
            sent += 1
            yield b"x" * 65_536

    try:
        response = await http.post("/orders", content=endless())
    except httpx.TransportError:  # the server hung up before all of it was sent
        assert sent < 200
        return
    assert problem(response) == (
        413,
        "payload_too_large",
        f"the body exceeds the limit of {MAX_BODY_BYTES} bytes; send less",
    )


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/fail/missing", (404, "not_found", "no such thing")),
        ("/fail/full", (429, "resource_exhausted", "the queue holds 8 of 8")),
        ("/nowhere", (404, "http_error", "Not Found")),
    ],
)
async def test_errors_are_problems(
    http: httpx.AsyncClient, path: str, expected: tuple[int, str, str]
) -> None:
    assert problem(await http.get(path)) == expected


async def test_a_defect_is_a_problem_that_tells_nothing_of_the_inside(
    http: httpx.AsyncClient,
) -> None:
    status, code, detail = problem(await http.get("/fail/defect"))
    assert (status, code) == (500, "internal")
    assert "secret" not in detail


async def test_a_bad_query_parameter_is_a_problem(http: httpx.AsyncClient) -> None:
    status, code, detail = problem(await http.get("/typed", params={"n": "seven"}))
    assert (status, code) == (400, "invalid_argument")
    assert "'seven'" in detail


@pytest.mark.parametrize(
    ("offset_s", "low", "high"), [(30.0, 20.0, 30.1), (10 * DAY_S, DAY_S - 60, DAY_S)]
)
async def test_a_deadline_is_taken_over_up_to_a_day(
    http: httpx.AsyncClient, offset_s: float, low: float, high: float
) -> None:
    headers = {"X-Deadline": f"{time.time() + offset_s:.3f}"}
    left_s = (await http.get("/context", headers=headers)).json()["left_s"]
    assert low <= left_s <= high


async def test_a_deadline_that_passed_is_an_error(http: httpx.AsyncClient) -> None:
    headers = {"X-Deadline": "1000.0"}
    status, code, _ = problem(await http.get("/context", headers=headers))
    assert (status, code) == (504, "deadline_exceeded")


@pytest.mark.parametrize("header", ["NaN", "soon", "", "inf", "1e400", "12:00"])
async def test_a_deadline_that_is_no_time_is_ignored(http: httpx.AsyncClient, header: str) -> None:
    response = await http.get("/context", headers={"X-Deadline": header})
    assert DAY_S - 60 <= response.json()["left_s"] <= DAY_S


async def test_a_request_keeps_its_id_or_gets_one_of_its_own(http: httpx.AsyncClient) -> None:
    named = await http.get("/context", headers={"X-Request-Id": "mine"})
    long = await http.get("/context", headers={"X-Request-Id": "x" * 5000})
    own = [(await http.get("/context")).json()["id"] for _ in range(2)]
    assert named.json()["id"] == "mine"
    assert len(long.json()["id"]) == 32
    assert len(set(own)) == 2


async def test_health_and_readiness_are_two_things(http: httpx.AsyncClient, shop: Shop) -> None:
    shop.is_ready = False
    assert (await http.get("/healthz")).status_code == 200
    assert problem(await http.get("/readyz")) == (503, "unavailable", "the shop is closed")
    shop.is_ready = True
    assert (await http.get("/readyz")).json() == {"status": "ok"}


async def test_the_service_is_closed_with_the_app(shop: Shop) -> None:
    @asynccontextmanager
    async def open_shop() -> AsyncIterator[Shop]:
        yield shop
        shop.is_closed = True

    async with serve(create_app(title="s", routers=[], open_service=open_shop)):
        assert not shop.is_closed
    assert shop.is_closed

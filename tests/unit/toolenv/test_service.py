"""The service on a fake sandbox."""

import asyncio
import time

import pytest

from services.contracts.apis import ApiRef
from services.contracts.errors import NotFound, ResourceExhausted, Unavailable
from services.contracts.toolenv import CallStatus, ToolCall
from services.toolenv.admission import Admission
from services.toolenv.catalog import Catalogue
from services.toolenv.chain import Chain
from services.toolenv.executors.custom import CustomExecutor
from services.toolenv.registry import Registry
from services.toolenv.service import ToolEnvService
from services.toolenv.status import SandboxStatus
from tests.fakes.tool_sandbox import FakeSandbox, make_entry

pytestmark = pytest.mark.anyio

ECHO = ApiRef.parse("Customized/echo_tool/echo_text")


def make_service(
    sandbox: FakeSandbox, *, max_running: int = 2, max_waiting: int = 2, is_alive: bool = True
) -> ToolEnvService:
    status = SandboxStatus(tier="ns", is_alive=is_alive, landlock_abi=7, probes=())
    return ToolEnvService(
        registry=Registry.fixed(
            Catalogue([make_entry(), make_entry("Customized/echo_tool/shout")])
        ),
        chain=Chain([CustomExecutor(sandbox, call_timeout_s=0.5)]),
        admission=Admission(max_running=max_running, max_waiting=max_waiting),
        sandbox_status=lambda: status,
    )


async def test_a_call_is_executed(sandbox: FakeSandbox) -> None:
    call = ToolCall(api=ECHO, arguments_text='{"text": "hi"}')
    observation = await make_service(sandbox).invoke(call)
    assert observation.status is CallStatus.OK


async def test_an_unknown_api_is_not_found_and_similar_ones_are_named(sandbox: FakeSandbox) -> None:
    call = ToolCall(api=ApiRef.parse("Customized/echo_tool/echo_txt"), arguments_text="")
    with pytest.raises(NotFound, match="did you mean Customized/echo_tool/echo_text"):
        await make_service(sandbox).invoke(call)


async def test_a_hostile_name_costs_no_time(sandbox: FakeSandbox) -> None:
    entries = [make_entry(f"Customized/echo_tool/{'ab' * 100}{number}") for number in range(2000)]
    service = ToolEnvService(
        registry=Registry.fixed(Catalogue(entries)),
        chain=Chain([CustomExecutor(sandbox)]),
        admission=Admission(max_running=1, max_waiting=0),
    )
    ref = ApiRef(category="Customized", tool="ba" * 250, api="ab" * 250)
    started = time.perf_counter()
    with pytest.raises(NotFound) as caught:
        await service.invoke(ToolCall(api=ref, arguments_text=""))
    assert time.perf_counter() - started < 1.0
    assert len(caught.value.detail) < 1500


async def test_more_calls_than_fit_are_refused_and_the_others_finish(sandbox: FakeSandbox) -> None:
    sandbox.hang = True
    service = make_service(sandbox, max_running=1, max_waiting=1)
    call = ToolCall(api=ECHO, arguments_text="")
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        first = group.create_task(failure_of(service, call))
        second = group.create_task(failure_of(service, call))
        await asyncio.sleep(0.01)
        assert await failure_of(service, call) is ResourceExhausted
        first.cancel()
        second.cancel()
    sandbox.hang = False
    answer = await service.invoke(ToolCall(api=ECHO, arguments_text='{"text": "a"}'))
    assert answer.status is CallStatus.OK


async def failure_of(service: ToolEnvService, call: ToolCall) -> type[Exception] | None:
    try:
        await service.invoke(call)
    except (ResourceExhausted, Unavailable) as exc:
        return type(exc)
    return None


async def test_describe_keeps_the_order_asked_and_leaves_out_unknown_ones(
    sandbox: FakeSandbox,
) -> None:
    refs = [
        ApiRef.parse("Customized/echo_tool/shout"),
        ApiRef.parse("Customized/echo_tool/nothing"),
        ECHO,
    ]
    documents = await make_service(sandbox).describe(refs)
    assert [document.ref.api for document in documents] == ["shout", "echo_text"]


async def test_the_catalogue_is_ordered_by_address(sandbox: FakeSandbox) -> None:
    documents = await make_service(sandbox).catalogue()
    assert [document.ref.api for document in documents] == ["echo_text", "shout"]


async def test_a_dead_sandbox_is_not_ready(sandbox: FakeSandbox) -> None:
    await make_service(sandbox).check_ready()
    with pytest.raises(Unavailable, match="sandbox died"):
        await make_service(sandbox, is_alive=False).check_ready()

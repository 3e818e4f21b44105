"""The spans of a run."""

import asyncio
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.contracts.errors import Unavailable
from services.contracts.planner import SolveRequest
from services.contracts.toolenv import CallStatus, Observation, ToolCall
from services.kit.telemetry import recording
from services.planner.service import PlannerOptions, PlannerService
from tests.fakes.planner_ports import (
    HELLO,
    HELLO_NAME,
    FakeRetriever,
    FakeToolEnv,
    ScriptedModel,
    answer,
    document,
    events_of,
    number,
    reply,
)

pytestmark = pytest.mark.anyio

OPEN = SolveRequest(instruction="a secret wish", method="CoT@1", run_id="mine")
STEP = reply((HELLO_NAME, '{"a": 47110815}'), thought="a secret thought")


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    made = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(made))
    with recording(provider.get_tracer("test")):
        yield made


def planner(model: ScriptedModel, *, status: CallStatus = CallStatus.OK, **options: object):
    def answers(_: ToolCall) -> Observation:
        return Observation(status=status, content="secret", source="custom", latency_s=0.1)

    return PlannerService(
        model=model,
        toolenv=FakeToolEnv([document(HELLO, optional_parameters=(number("a"),))], answers=answers),
        retriever=FakeRetriever([HELLO]),
        options=PlannerOptions(**options),
    )


def tree(spans: tuple[ReadableSpan, ...], parent: ReadableSpan | None = None) -> list[object]:
    """Names in order of their beginning, each with those below it."""
    above = parent.context.span_id if parent is not None else None
    below = [s for s in spans if (s.parent.span_id if s.parent else None) == above]
    below.sort(key=lambda s: s.start_time)
    return [(s.name, tree(spans, s)) for s in below]


@pytest.mark.parametrize("stream_model", [False, True])
async def test_a_runs_spans_form_the_tree_of_its_calls(
    exporter: InMemorySpanExporter, stream_model: bool
) -> None:
    service = planner(ScriptedModel([STEP, answer("secret")]), stream_model=stream_model)
    model = (await service._ports.model.describe()).model
    await events_of(service, OPEN)
    assert tree(exporter.get_finished_spans()) == [
        (
            "invoke_agent planner",
            [
                ("retrieve", []),
                (
                    "plan CoT@1",
                    [
                        (f"chat {model}", []),
                        (f"execute_tool {HELLO}", []),
                        (f"chat {model}", []),
                    ],
                ),
            ],
        )
    ]


async def test_spans_count_and_name_but_do_not_quote(exporter: InMemorySpanExporter) -> None:
    await events_of(planner(ScriptedModel([STEP, answer("secret")])), OPEN)
    spans = exporter.get_finished_spans()
    run = next(s for s in spans if s.name == "invoke_agent planner")
    chat = next(s for s in spans if s.name.startswith("chat"))
    assert dict(run.attributes) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "planner",
        "gen_ai.conversation.id": "mine",
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.output_tokens": 4,
        "toolwright.run.end": "answered",
        "toolwright.run.llm_calls": 2,
        "toolwright.run.tool_calls": 1,
    }
    assert chat.attributes["gen_ai.operation.name"] == "chat"
    assert chat.attributes["gen_ai.usage.input_tokens"] == 10
    assert chat.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    said = [s.to_json() for s in spans]
    assert [text for text in said if "secret" in text or "47110815" in text] == []


async def test_a_failing_tool_and_a_failing_model_are_told_by_their_class(
    exporter: InMemorySpanExporter,
) -> None:
    service = planner(ScriptedModel([STEP, Unavailable("secret")]), status=CallStatus.TIMEOUT)
    await events_of(service, OPEN)
    errors = {
        s.name.split()[0]: s.attributes["error.type"]
        for s in exporter.get_finished_spans()
        if "error.type" in s.attributes
    }
    assert errors == {
        "execute_tool": "timeout",
        "chat": "unavailable",
        "plan": "unavailable",
        "invoke_agent": "unavailable",
    }


async def test_the_traces_of_parallel_runs_do_not_mix(exporter: InMemorySpanExporter) -> None:
    def script(request: object) -> object:
        return STEP if len(request.messages) == 2 else answer("x")

    service = planner(ScriptedModel(script, delay_s=0.005))
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            request = OPEN.model_copy(update={"run_id": f"run{number}"})
            group.create_task(events_of(service, request))
    traces: dict[int, list[str]] = {}
    for each in exporter.get_finished_spans():
        traces.setdefault(each.context.trace_id, []).append(each.name.split()[0])
    once = ["chat", "chat", "execute_tool", "invoke_agent", "plan", "retrieve"]
    assert [sorted(names) for names in traces.values()] == [once] * 20

"""Spans: their parents, what they tell of failures, and the file they are written to."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.contracts.context import current_traceparent, outgoing_headers, trace_scope
from services.contracts.errors import FailedPrecondition, Unavailable
from services.kit.telemetry import open_telemetry, recording, span

ABOVE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with recording(provider.get_tracer("test")):
        yield exporter


def test_without_an_exporter_nothing_is_recorded_and_a_foreign_trace_is_passed_on() -> None:
    with trace_scope(ABOVE), span("work") as begun:
        assert not begun.is_recording()
        assert outgoing_headers(timeout_s=1)["traceparent"] == ABOVE


def test_a_span_is_below_the_one_of_the_calling_process(spans: InMemorySpanExporter) -> None:
    with trace_scope(ABOVE), span("outer"), span("inner"):
        sent = outgoing_headers(timeout_s=1)["traceparent"]
    inner, outer = spans.get_finished_spans()
    assert (outer.parent.span_id, inner.parent.span_id) == (
        0xB7AD6B7169203331,
        outer.context.span_id,
    )
    assert inner.context.trace_id == 0x0AF7651916CD43DD8448EB211C80319C
    assert sent.split("-")[2] == f"{inner.context.span_id:016x}"
    assert current_traceparent() is None


@pytest.mark.parametrize(
    "header",
    ["", "x", ABOVE + "\r\nx: y", "00-" + "0" * 32 + "-b7ad6b7169203331-01", ABOVE.upper()],
)
def test_a_malformed_trace_header_is_ignored(header: str) -> None:
    with trace_scope(header):
        assert current_traceparent() is None


def test_a_failure_is_told_by_its_class_and_not_by_its_words(spans: InMemorySpanExporter) -> None:
    with pytest.raises(Unavailable), span("work"):
        raise Unavailable("secret words")
    (work,) = spans.get_finished_spans()
    assert (work.attributes["error.type"], work.status.is_ok) == ("unavailable", False)
    assert "secret" not in work.to_json()


def test_spans_are_written_to_a_file_of_the_users_own(tmp_path: Path) -> None:
    file = tmp_path / "traces" / "spans.jsonl"
    with open_telemetry("test", file=file), span("outer"), span("inner"):
        pass
    names = [json.loads(line)["name"] for line in file.read_text().splitlines()]
    assert names == ["inner", "outer"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_that_cannot_be_written_is_named_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with (
        pytest.raises(FailedPrecondition, match=r"plain/spans.*TOOLWRIGHT_TRACE_FILE"),
        open_telemetry("test", file=tmp_path / "plain" / "spans"),
    ):
        pass

"""A worker that writes arbitrary bytes on its own connection: the host's answer is always typed."""

import base64
import json
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.toolenv.sandbox import Sandbox, SandboxOutcome, SandboxResult
from tests.integration.sandbox.attacks.attack import tool
from tests.integration.sandbox.processes import open_descriptors

pytestmark = pytest.mark.anyio

_DEADLINE_S = 1.5
_EXAMPLES = 150
_GRACE_S = 1.0
_TYPED = set(SandboxOutcome)

_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just("x" * 9000)
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)
_TYPES = st.sampled_from(
    ["result", "code", "ready", "failed", "http", "job", "response", "exit", "fork", "kill", "up"]
)
_OUTCOMES = st.sampled_from([*SandboxOutcome, "fine", ""])
_RESULT = st.fixed_dictionaries(
    {
        "t": st.just("result"),
        "outcome": _OUTCOMES | _VALUES,
        "value": _VALUES,
        "error": st.text(max_size=30) | _VALUES,
        "stdout": st.text(max_size=30) | _VALUES,
        "cpu_s": st.floats() | _VALUES,
    }
)
_MESSAGE = st.one_of(
    _RESULT,
    st.dictionaries(st.text(max_size=8), _VALUES, max_size=5),
    st.builds(
        lambda t, rest: {"t": t} | rest, _TYPES, st.dictionaries(st.text(max_size=8), _VALUES)
    ),
    st.builds(
        lambda method, url, headers: {
            "t": "http",
            "id": 1,
            "method": method,
            "url": url,
            "headers": headers,
            "body": "",
        },
        st.sampled_from(["GET", "POST", "get", "", "\r\n"]) | _VALUES,
        st.sampled_from(["http://127.0.0.1/", "file:///etc/passwd", "https://[::1]", ""]) | _VALUES,
        st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=3) | _VALUES,
    ),
)


def _frame(body: bytes) -> bytes:
    return struct.pack("<I", len(body)) + body


def _encoded(message: object) -> bytes:
    return json.dumps(message).encode("utf-8", "surrogatepass")


_CHUNK = st.one_of(
    _MESSAGE.map(_encoded).map(_frame),
    st.binary(max_size=60).map(_frame),
    st.binary(max_size=60),
    st.tuples(st.integers(0, (1 << 32) - 1), st.binary(max_size=30)).map(
        lambda pair: struct.pack("<I", pair[0]) + pair[1]
    ),
)
_ENDINGS = st.sampled_from(["return 1", "os._exit(0)", "os.closerange(0, 64); os._exit(1)"])


def _problems(result: SandboxResult, deadline_s: float) -> list[str]:
    """Everything that is not as the type promises."""
    found = []
    if result.outcome not in _TYPED:
        found.append(f"outcome {result.outcome!r}")
    if result.outcome is not SandboxOutcome.OK and (result.value is not None or not result.error):
        found.append("a failure with a value or without a text")
    if not isinstance(result.error, str) or len(result.error) > 2000:
        found.append("error")
    if not isinstance(result.stdout, str) or len(result.stdout.encode()) > 64 << 10:
        found.append("stdout")
    if result.cpu_s is not None and not 0 <= result.cpu_s < 1e6:
        found.append("cpu_s")
    if result.latency_s > deadline_s + _GRACE_S:
        found.append(f"latency {result.latency_s}")
    json.dumps(result.value, allow_nan=False).encode("utf-8")  # raises for what is not strict JSON
    return found


async def _write_and_end(sandbox: Sandbox, chunks: list[bytes], ending: str) -> SandboxResult:
    body = f"import base64\nfor chunk in canary: send(base64.b64decode(chunk))\n{ending}"
    data = [base64.b64encode(chunk).decode("ascii") for chunk in chunks]
    return await sandbox.call(
        source=tool(body), function="run", arguments={"canary": data}, deadline_s=_DEADLINE_S
    )


@settings(
    max_examples=_EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(chunks=st.lists(_CHUNK, max_size=5), ending=_ENDINGS)
async def test_whatever_a_worker_writes_the_result_is_typed_and_in_time(
    sandbox: Sandbox, chunks: list[bytes], ending: str
):
    result = await _write_and_end(sandbox, chunks, ending)
    assert _problems(result, _DEADLINE_S) == []


async def test_after_all_that_the_next_call_is_right_and_no_descriptor_is_lost(
    sandbox: Sandbox, run_tool
):
    before = open_descriptors()
    for number in range(100):
        await _write_and_end(sandbox, [bytes([number]) * number], "os._exit(0)")
    result = await run_tool("def run(n): return n + 1", n=41)
    assert result.value == 42
    assert open_descriptors() - before < 20


async def test_a_forged_claim_is_believed_only_where_it_concerns_the_tool_itself(sandbox: Sandbox):
    believed = set()
    for outcome in SandboxOutcome:
        message = {"t": "result", "outcome": outcome, "value": 1, "error": "x", "stdout": ""}
        frame = _frame(_encoded(message | {"cpu_s": 0.0}))
        result = await _write_and_end(sandbox, [frame], "silent()")
        believed |= {outcome} & {result.outcome}
    never = {
        SandboxOutcome.TIMEOUT,
        SandboxOutcome.CPU_LIMIT,
        SandboxOutcome.CRASHED,
        SandboxOutcome.UNAVAILABLE,
    }
    assert not believed & never

"""Recordings of an imaginary API."""

from services.contracts.apis import ApiRef
from services.contracts.toolenv import CallStatus, ObservationSource
from services.toolenv.cassettes.recording import Answer, Recording, recording_of
from services.toolenv.observation import print_reply

ECHO = ApiRef(category="Customized", tool="echo_tool", api="echo_text")
RECORDED_AT = 1_700_000_000.25


def make_answer(
    response: object = "hello",
    *,
    status: CallStatus = CallStatus.OK,
    source: ObservationSource = "live",
) -> Answer:
    error = "" if status is CallStatus.OK else "it broke"
    return Answer(print_reply(error, response), status, source, 200, 0.125, RECORDED_AT)


def make_recording(
    number: int = 0,
    response: object = "hello",
    *,
    ref: ApiRef = ECHO,
    status: CallStatus = CallStatus.OK,
    source: ObservationSource = "live",
) -> Recording:
    """One recording per number; the same number is the same call."""
    answer = make_answer(response, status=status, source=source)
    return recording_of(ref, {"text": f"text {number}", "times": number}, answer)

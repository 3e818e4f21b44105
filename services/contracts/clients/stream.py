"""Frames of a stream between our services: one JSON document per line, an error as the last one."""

from typing import Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from services.contracts.base import ForeignModel
from services.contracts.errors import Problem, Unavailable, from_problem

T = TypeVar("T")


class StreamFailure(ForeignModel):
    """Last frame of a stream that broke after its headers were sent."""

    stream_failure: Literal[True] = True
    problem: Problem


_FAILURE_PREFIX = '{"stream_failure":true'


def parse_frame(frame: TypeAdapter[T], line: str) -> T:
    """Parse one line, or raise the error it carries.

    Raises:
        ServiceError: The line is a `StreamFailure`.
        Unavailable: The line is neither.
    """
    if line.startswith(_FAILURE_PREFIX):
        raise from_problem(StreamFailure.model_validate_json(line).problem)
    try:
        return frame.validate_json(line)
    except ValidationError as exc:
        raise Unavailable(f"a stream frame is outside its contract: {line[:120]!r}") from exc

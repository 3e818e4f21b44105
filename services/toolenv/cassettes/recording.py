"""One recorded answer, its row, and its line in an export.

A line is canonical JSON with sorted keys, so equal recordings have equal lines everywhere; the hash
of a snapshot is the SHA-256 of its lines in the order of their keys, each ended by a line feed.
"""

import json
from collections.abc import Mapping
from typing import Annotated, NamedTuple, NoReturn

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from services.contracts.apis import ApiRef
from services.contracts.errors import InvalidArgument
from services.contracts.toolenv import MAX_ARGUMENTS_CHARS, CallStatus, ObservationSource
from services.toolenv.cassettes.key import canonical, key_of
from services.toolenv.observation import MAX_CONTENT_BYTES

MAX_LINE_BYTES = 16 << 20
"""Longest line of an export that is read: content and arguments at their limits, all escaped."""


class Answer(NamedTuple):
    """What a replay needs of a recording."""

    content: str
    """The whole `{"error", "response"}` JSON text, verbatim."""
    status: CallStatus
    source: ObservationSource
    """Who gave the answer."""
    upstream_status: int | None
    """HTTP status of the API itself, where there was one."""
    latency_s: float
    """Seconds that the answer took when it was recorded."""
    recorded_at: float
    """Unix time, seconds."""


class Recording(NamedTuple):
    """One recorded answer with its call; the order of the fields is that of the row."""

    key: str
    """Content address, see `cassettes.key`."""
    category: str
    tool: str
    api: str
    arguments: str
    """Canonical JSON of the arguments."""
    content: str
    status: CallStatus
    source: ObservationSource
    upstream_status: int | None
    latency_s: float
    recorded_at: float

    @property
    def ref(self) -> ApiRef:
        """Address of the API."""
        return ApiRef(category=self.category, tool=self.tool, api=self.api)


class Miss(NamedTuple):
    """A call that was asked of the record in vain."""

    key: str
    category: str
    tool: str
    api: str
    arguments: str
    """Canonical JSON of the arguments."""
    times: int
    last_at: float
    """Unix time, seconds."""


def recording_of(ref: ApiRef, arguments: Mapping[str, JsonValue], answer: Answer) -> Recording:
    """A recording of one call.

    Raises:
        ValueError: The arguments cannot be written as JSON.
    """
    written = canonical(arguments)
    key = key_of(ref.category, ref.tool, ref.api, written)
    return Recording(key, ref.category, ref.tool, ref.api, written.decode(), *answer)


def line_of(recording: Recording) -> bytes:
    """The recording as one line of an export, without the line feed."""
    rest = canonical(
        {
            "category": recording.category,
            "content": recording.content,
            "key": recording.key,
            "latency_s": _whole(recording.latency_s),
            "recorded_at": _whole(recording.recorded_at),
            "source": recording.source,
            "status": recording.status.value,
            "tool": recording.tool,
            "upstream_status": recording.upstream_status,
        }
    )
    # Both are canonical already and sort before the rest, so nothing is parsed to be written again.
    return b'{"api":%s,"arguments":%s,%s' % (
        canonical(recording.api),
        recording.arguments.encode(),
        rest[1:],
    )


def _whole(number: float) -> float:
    """The same number, in the type that is written faster."""
    return int(number) if number.is_integer() else number


def parse_line(text: bytes, *, where: str) -> Recording:
    """Read one line of an export.

    Args:
        text: The line, with or without its line feed.
        where: File and line, for messages.

    Raises:
        InvalidArgument: The line is no recording; the message names where, the field and the fix.
    """
    try:
        line = json.loads(text, parse_constant=_not_json)
    except (ValueError, RecursionError) as exc:
        raise InvalidArgument(f"{where}: not a line of JSON: {exc}; export it again") from exc
    if not isinstance(line, dict):
        raise InvalidArgument(f"{where}: a recording is a JSON object, not {type(line).__name__}")
    unknown = sorted(set(line) - _FIELDS.keys())
    if unknown:
        raise InvalidArgument(f"{where}: field {unknown[0]!r} is unknown; remove it")
    found = {name: _field(line, name, where) for name in _FIELDS}
    return _checked(found, where)


def _field(line: Mapping[str, JsonValue], name: str, where: str) -> object:
    if name not in line:
        raise InvalidArgument(f"{where}: field {name!r} is missing; export it again")
    try:
        return _FIELDS[name].validate_python(line[name], strict=name != "status")
    except ValidationError as exc:
        said = exc.errors(include_url=False, include_input=False)[0]["msg"]
        raise InvalidArgument(
            f"{where}: field {name!r} is {repr(line[name])[:80]}: {said}; correct it"
        ) from exc


def _checked(found: dict[str, object], where: str) -> Recording:
    """The recording of validated fields, if they agree with each other."""
    try:
        ref = ApiRef.model_validate({name: found[name] for name in ("category", "tool", "api")})
        arguments = canonical(found["arguments"])
        key = key_of(ref.category, ref.tool, ref.api, arguments)
    except ValidationError as exc:
        field = exc.errors(include_url=False, include_input=False)[0]
        raise InvalidArgument(f"{where}: field {field['loc'][0]!r}: {field['msg']}") from exc
    except ValueError as exc:
        raise InvalidArgument(f"{where}: field 'arguments' cannot be written: {exc}") from exc
    if key != found["key"]:
        raise InvalidArgument(
            f"{where}: field 'key' is {found['key']!r}, but its call has the address {key}: the "
            "line was changed by hand or damaged; export it again"
        )
    recording = Recording._make(
        arguments.decode() if name == "arguments" else found[name] for name in Recording._fields
    )
    check_sizes(recording, where=where)
    return recording


def check_sizes(recording: Recording, *, where: str) -> None:
    """Refuse a recording that a replay could not give back.

    Raises:
        InvalidArgument: Arguments or content are too long, or hold half a surrogate pair.
    """
    if len(recording.arguments) > MAX_ARGUMENTS_CHARS:
        raise InvalidArgument(
            f"{where}: field 'arguments' has {len(recording.arguments)} characters, more than the "
            f"limit of {MAX_ARGUMENTS_CHARS}; leave this entry out"
        )
    try:
        n_bytes = len(recording.content.encode())
    except UnicodeEncodeError as exc:
        raise InvalidArgument(
            f"{where}: field 'content' holds half a surrogate pair at {exc.start}; correct it"
        ) from exc
    if n_bytes > MAX_CONTENT_BYTES:
        raise InvalidArgument(
            f"{where}: field 'content' has {n_bytes} bytes, more than the limit of "
            f"{MAX_CONTENT_BYTES}; leave this entry out"
        )


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")


_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_FIELDS: Mapping[str, TypeAdapter[object]] = {
    "key": TypeAdapter(str),
    "category": TypeAdapter(str),
    "tool": TypeAdapter(str),
    "api": TypeAdapter(str),
    "arguments": TypeAdapter(dict[str, JsonValue]),
    "content": TypeAdapter(str),
    "status": TypeAdapter(CallStatus),
    "source": TypeAdapter(ObservationSource),
    "upstream_status": TypeAdapter(Annotated[int, Field(ge=100, le=999)] | None),
    "latency_s": TypeAdapter(_Seconds),
    "recorded_at": TypeAdapter(_Seconds),
}

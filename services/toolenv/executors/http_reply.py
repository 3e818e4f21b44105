"""Reads what an HTTP API answered: bounded, decoded, without secrets."""

import codecs
import hashlib
import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

import httpx
from pydantic import JsonValue

from services.toolenv.egress.decoding import Decoder
from services.toolenv.egress.errors import ResponseTooLarge
from services.toolenv.egress.redaction import REDACTED, Redactor

_BINARY_KINDS: Final = ("image/", "audio/", "video/", "font/")
_BINARY_TYPES: Final = frozenset(
    {"application/octet-stream", "application/pdf", "application/zip", "application/gzip"}
    | {"application/x-protobuf", "application/wasm", "application/vnd.ms-excel"}
)
_CHARSETS: Final = frozenset(
    codecs.lookup(name).name
    for name in (
        "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "ascii", "latin-1",
        "iso8859-2", "iso8859-5", "iso8859-7", "iso8859-9", "iso8859-15", "cp1250", "cp1251",
        "cp1252", "cp1253", "cp1254", "cp1256", "gb2312", "gbk", "gb18030", "big5", "shift_jis",
        "cp932", "euc_jp", "iso2022_jp", "euc_kr", "cp949", "koi8-r", "koi8-u", "cp874",
    )
)  # fmt: skip
"""What the web uses; Python's other codecs include slow ones and some that are no charsets."""


class RawBody(NamedTuple):
    """What was read of a body."""

    content: bytes
    """Decompressed; at most the limit."""
    is_whole: bool


async def read_body(response: httpx.Response, *, limit_bytes: int) -> RawBody:
    """Read a streamed response up to a limit; the caller closes it.

    Raises:
        UnknownEncoding: The body is compressed in a way nobody asked for.
        zlib.error: The compressed body is damaged.
        httpx.TransportError: The connection broke.
    """
    decoder = Decoder(response.headers.get("content-encoding", ""), limit_bytes=1 << 62)
    body = bytearray()
    try:
        async for part in response.aiter_raw():
            for piece in decoder.feed(part):
                body += piece[: limit_bytes + 1 - len(body)]
                if len(body) > limit_bytes:
                    return RawBody(bytes(body[:limit_bytes]), is_whole=False)
    except ResponseTooLarge:  # of a guarded transport with a lower limit
        return RawBody(bytes(body), is_whole=False)
    return RawBody(bytes(body), is_whole=True)


def decode_body(body: bytes, content_type: str) -> JsonValue:
    """The body as a JSON value, else as text; a binary one is described instead.

    NaN and infinities, which some servers print, become null.
    """
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    if not body:
        return ""
    if _is_binary(body, kind):
        return {
            "content_type": kind or "application/octet-stream",
            "size_bytes": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
    text = _text(body, parameters)
    try:
        value: JsonValue = json.loads(text, parse_constant=_null, parse_float=_float)
    except (ValueError, RecursionError):
        return text
    return value


def says_json(content_type: str) -> bool:
    """Whether a content type promises JSON."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind in ("application/json", "text/json") or kind.endswith("+json")


def text_of(body: bytes) -> str:
    """The beginning of a body as text; a character that was cut in two is left out."""
    return body.decode("utf-8", "ignore")


def without_secrets(value: JsonValue, redactor: Redactor) -> JsonValue:
    """The same value without secrets in keys, texts and numbers.

    Raises:
        RecursionError: It is nested too deeply.
    """
    # Joined as they are: printed as JSON, a quote or backslash in a secret would be escaped once
    # more, and the secret not found.
    if not redactor.is_in("\n".join(_leaves(value))):
        return value
    return _cleaned(value, redactor)


def _leaves(value: JsonValue) -> Iterator[str]:
    """Every key, text and number."""
    waiting: list[JsonValue] = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            yield from item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
        elif isinstance(item, int | float):
            yield str(item)


def _cleaned(value: JsonValue, redactor: Redactor) -> JsonValue:
    if isinstance(value, str):
        return redactor.in_text(value)
    if isinstance(value, dict):
        return {redactor.in_text(key): _cleaned(item, redactor) for key, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item, redactor) for item in value]
    if isinstance(value, int | float) and redactor.is_in(str(value)):
        return REDACTED
    return value


def retry_after_s(headers: httpx.Headers, *, at_most_s: float) -> float | None:
    """The pause that a response asks for, in seconds (RFC 9110, 10.2.3).

    A date is compared with the server's own `Date` where it sends one, so that our clock does not
    matter.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        until = _date(text)
        if until is None:
            return None
        now = _date(headers.get("date", "")) or datetime.now(UTC)
        seconds = (until - now).total_seconds()
    return min(max(seconds, 0.0), at_most_s) if math.isfinite(seconds) else None


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _is_binary(body: bytes, kind: str) -> bool:
    if kind.startswith(_BINARY_KINDS) and kind != "image/svg+xml":
        return True
    has_mark = body[:4].startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return kind in _BINARY_TYPES or (b"\0" in body[:4096] and not has_mark and "text" not in kind)


def _text(body: bytes, parameters: str) -> str:
    for charset in (_charset(parameters), "utf-8-sig", _marked(body)):
        try:
            if charset:
                return body.decode(charset).removeprefix("\ufeff")
        except UnicodeDecodeError:
            continue
    return body.decode("utf-8", "replace")


def _marked(body: bytes) -> str:
    is_marked = body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return "utf-16" if is_marked else "latin-1"


def _charset(parameters: str) -> str:
    for parameter in parameters.split(";"):
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "charset":
            try:
                name = codecs.lookup(value.strip().strip("\"'")[:40]).name
            except (LookupError, ValueError):
                return ""
            return name if name in _CHARSETS else ""
    return ""


def _null(_: str) -> None:
    return None


def _float(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None

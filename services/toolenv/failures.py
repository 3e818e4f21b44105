"""What an API's answer means: a value, or which kind of failure (interop 3.2 step 5).

The HTTP status decides first. Many APIs, and RapidAPI's gateway for them, also report failures with
status 200; those are told by the structure of the answer (`{"message": ...}` alone, `{"error":
...}`, `{"success": false}`) and by whole phrases in the places where such texts stand. Neither a
digit nor the word `error` somewhere in an answer makes it a failure: a price of 1500, `error: null`
and a book called "An unauthorized biography" are values.

What the reference makes of the same answer, `protocol.classify_as_reference` says.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from pydantic import JsonValue

from services.contracts.toolenv import CallStatus

_MAX_MESSAGE_CHARS = 500
_MAX_PHRASE_CHARS = 400  # a longer message is an article, not a gateway's
_MAX_TEXT_CHARS = 200  # the same for a body that is nothing but text
_MAX_HTML_CHARS = 20_000


class Verdict(NamedTuple):
    """Outcome of one answer."""

    status: CallStatus
    message: str = ""
    """The API's own words about the failure, at most 500 characters; may be empty."""


class _Phrase(NamedTuple):
    status: CallStatus
    pattern: re.Pattern[str]


def _phrase(status: CallStatus, *alternatives: str) -> _Phrase:
    return _Phrase(status, re.compile("|".join(f"(?:{text})" for text in alternatives), re.I))


_ENDS = r"[\s.!]*$"
# Ordered: the first that matches decides. Each is a whole sentence of a gateway, or a text that is
# nothing else (`^...$`).
_PHRASES: Final = (
    _phrase(
        CallStatus.UNSUBSCRIBED,
        r"\bnot subscribed to this (?:API|plan|endpoint)\b",
        r"\bdisabled for your subscription\b",
        r"\bnot (?:available|included|supported) (?:in|on|for|with|under) your "
        r"(?:current |subscription )*(?:plan|subscription)\b",
        r"\byour (?:current )?(?:plan|subscription)(?: plan)? does(?: not|n't) (?:support|include|"
        r"allow|have access)\b",
        r"\b(?:premium|paid) (?:subscribers|users|plans?) only\b",
        r"\b(?:no|without an?) active subscription\b",
        rf"^subscription (?:required|expired|inactive){_ENDS}",
        rf"^payment required{_ENDS}",
    ),
    _phrase(
        CallStatus.BLOCKED,
        r"^blocked user\b",
        r"\byou(?:r (?:account|ip(?: address)?|user|key))? (?:have|has|is|are) (?:been )?"
        r"(?:permanently )?(?:blocked|banned|suspended)\b",
    ),
    _phrase(
        CallStatus.RATE_LIMITED,
        r"\bexceeded (?:the|your) [\w -]{0,60}?(?:quota|rate limit|limit|requests)\b",
        r"\byou are being rate limited\b",
        r"\b(?:API )?rate limit (?:exceeded|reached)\b",
        r"\b(?:daily|monthly|hourly|request|requests|api|usage) (?:quota|limit) (?:has been |is )?"
        r"(?:exceeded|reached|exhausted)\b",
        rf"^(?:quota|limit) (?:exceeded|reached){_ENDS}",
        r"\bcheck credits balance or enter the correct API key\b",
        r"\b(?:insufficient|not enough|out of|no more) credits\b",
        r"\byou have (?:reached|hit) (?:the|your) [\w -]{0,60}?(?:quota|limit)\b",
    ),
    _phrase(CallStatus.TOO_MANY_REQUESTS, r"^(?:error:? )?(?:429:? )?too many requests\b"),
    _phrase(
        CallStatus.UNAUTHORIZED,
        r"\b(?:invalid|incorrect|wrong|bad|missing|unknown|expired) (?:or (?:missing|invalid|"
        r"expired) )?(?:X-RapidAPI|rapidapi|api|app|access|auth(?:entication|orization)?)"
        r"[ _-]?(?:key|token|credentials?)\b",
        r"\b(?:api[ _-]?key|access[ _-]?token|credentials?) (?:is|are|was|were|has|have) (?:been )?"
        r"(?:invalid|incorrect|missing|required|expired|revoked|not (?:valid|provided|found))\b",
        r"\bno (?:api[ _-]?key|(?:authenticate |authentication )?credentials?|token) "
        r"(?:was |were )?(?:provided|supplied|found|given)\b",
        r"\bauthentication (?:is )?(?:required|failed|error)\b",
        r"\binvalid (?:authentication|consumer|credentials|token)\b",
        rf"^(?:error:? )?(?:401:? )?(?:unauthori[sz]ed|unauthenticated)(?: access| request| user|"
        rf" error)?{_ENDS}",
        r"\byou are not (?:authori[sz]ed|allowed|permitted) to (?:access|use|view|perform)\b",
        rf"^(?:error:? )?(?:403:? )?(?:forbidden|access (?:is )?(?:denied|forbidden)|"
        rf"permission denied){_ENDS}",
        r"^access (?:is )?(?:denied|restricted)\b",
    ),
    _phrase(
        CallStatus.API_NOT_WORKING,
        r"\bGateway \(working\) ---> API \(not working\)",
        r"\berror in the gateway has occurred\b",
        rf"^API (?:does(?: not|n't) exists?|is (?:down|not working|unavailable|deprecated)|"
        rf"not working){_ENDS}",
        r"^(?:the )?endpoint\b.{0,200}\b(?:does(?: not|n't) exist|is disabled|is deprecated|"
        r"has been (?:removed|deprecated))",
        r"\b(?:api|service) (?:is |was |has been )?(?:temporarily )?(?:unavailable|discontinued|"
        r"shut down|unreachable|no longer (?:available|supported))\b",
        rf"^(?:error:? )?(?:50[0-4]:? )?(?:internal (?:server )?error|bad gateway|"
        rf"service unavailable|gateway time-?out|upstream request timeout){_ENDS}",
        r"^no healthy upstream\b",
        r"\bno route and no API found\b",
        rf"^(?:application error|origin is unreachable|web server is down){_ENDS}",
    ),
    _phrase(
        CallStatus.TIMEOUT,
        rf"^(?:error:? )?(?:the )?(?:(?:endpoint )?request|upstream|connection|operation|gateway)"
        rf" (?:has )?time(?:d[ -]?out|[ -]?out)(?: error)?{_ENDS}",
    ),
    _phrase(
        CallStatus.TOOL_ERROR,
        rf"^(?:error:? )?(?:400:? |404:? |405:? |422:? )?(?:not found|bad request|"
        rf"method not allowed|unprocessable entity){_ENDS}",
    ),
)
_COMPLAINT: Final = _phrase(
    CallStatus.TOOL_ERROR,
    rf"^(?:error:? )?(?:[\w'\"-]+ ){{1,4}}(?:was |were |is )?not found{_ENDS}",
    rf"^validation (?:error|failed){_ENDS}",
    rf"^(?:missing|invalid|unknown|unsupported) [\w'-]+(?: [\w'-]+){{0,4}}{_ENDS}",
    r"^[\w' .-]{1,80} (?:must be|is required|are required|is invalid|is missing|"
    r"cannot be (?:empty|blank|null)|does(?: not|n't) exist)\b",
    r"^[\w' -]{1,120} exceeds the (?:limit|maximum)\b",
    r"^(?:something went wrong|an? (?:unexpected |internal |unknown )?error (?:has )?occurred)",
    r"\bunexpected keyword argument\b",
)
"""What an API says about one call; looked for only where messages stand, not in a text that may be
the answer itself."""

_ERROR_KEYS: Final = frozenset(
    {"error", "errors", "errormessage", "errormsg", "errordescription", "errmsg", "err", "fault"}
    | {"exception", "errordetail", "errordetails"}
)
_MESSAGE_KEYS: Final = (
    "message", "msg", "errormessage", "errormsg", "errmsg", "errordescription", "error", "errors",
    "detail", "details", "reason", "faultstring", "title", "description",
)  # fmt: skip
"""Where an API's words stand, most telling first."""
_WORD_KEYS: Final = frozenset({"message", "msg", "errormessage", "errormsg", "error", "errors"})
_CODE_KEYS: Final = frozenset({"status", "statuscode", "code", "cod", "httpstatus", "errorcode"})
_FLAG_KEYS: Final = frozenset({"success", "ok", "issuccess", "succeeded", "successful"})
_STATUS_KEYS: Final = frozenset({"status", "result", "type"})
_WRAPPERS: Final = frozenset({"meta", "status", "header", "head", "error", "fault", "response"})
_ENVELOPE_KEYS: Final = (
    _ERROR_KEYS
    | _CODE_KEYS
    | _STATUS_KEYS
    | _FLAG_KEYS
    | _WRAPPERS
    | frozenset(_MESSAGE_KEYS)
    | {"traceid", "requestid", "timestamp", "path", "instance", "documentationurl", "messages"}
    | {"statustext", "statusmessage", "help", "docs", "link", "version", "servertime"}
)
"""Keys that report on the call; an answer with no other key carries no value."""
_BAD_WORDS: Final = frozenset({"error", "fail", "failed", "failure", "err", "request_denied"})
_GOOD_WORDS: Final = frozenset(
    {"", "0", "200", "ok", "none", "null", "no", "false", "success", "no error", "no errors"}
    | {"succeeded", "successful", "n/a"}
)


def classify(http_status: int, body: JsonValue, *, expects_object: bool = False) -> Verdict:
    """What an answer means.

    Args:
        http_status: Status of the response; 200 where an answer has none.
        body: The decoded body: JSON, or text.
        expects_object: The API's document shows an object or a list as its response, so that a web
            page cannot be one.

    Returns:
        `OK`; `UNSUBSCRIBED`, `UNAUTHORIZED`, `BLOCKED`; `RATE_LIMITED` (a quota or rate is
        used up); `TOO_MANY_REQUESTS`; `API_NOT_WORKING` (gone, broken, or no such endpoint);
        `TIMEOUT`; `TOOL_ERROR` (the API's own complaint about this call); `REQUEST_FAILED` (not an
        answer of its protocol).
    """
    if http_status >= 300:
        return _of_status(http_status, _message(body))
    if isinstance(body, str):
        return _of_text(body, expects_object=expects_object)
    only = body[0] if isinstance(body, list) and len(body) == 1 else body
    if isinstance(only, dict) and (only is body or _is_failure(only)):
        return _of_object(only)
    return Verdict(CallStatus.OK)


def _of_status(http_status: int, message: str) -> Verdict:
    told = _told(message)
    if http_status < 400:
        return Verdict(CallStatus.REQUEST_FAILED, message)
    if told is not None and told is not CallStatus.TOOL_ERROR and http_status != 404:
        return Verdict(told, message)
    if http_status == 404:
        status = told if told is CallStatus.API_NOT_WORKING else CallStatus.TOOL_ERROR
        return Verdict(status, message)
    return Verdict(_STATUS_OF_HTTP.get(http_status, _by_class(http_status)), message)


def _by_class(http_status: int) -> CallStatus:
    return CallStatus.API_NOT_WORKING if http_status >= 500 else CallStatus.TOOL_ERROR


_STATUS_OF_HTTP: Final = {
    401: CallStatus.UNAUTHORIZED,
    402: CallStatus.UNSUBSCRIBED,
    403: CallStatus.UNAUTHORIZED,
    405: CallStatus.API_NOT_WORKING,
    407: CallStatus.UNAUTHORIZED,
    408: CallStatus.TIMEOUT,
    410: CallStatus.API_NOT_WORKING,
    429: CallStatus.TOO_MANY_REQUESTS,
    451: CallStatus.BLOCKED,
    504: CallStatus.TIMEOUT,
}


def _of_text(text: str, *, expects_object: bool) -> Verdict:
    if is_html(text):
        heading = _html_heading(text)
        told = _told(heading) or _told_by_page(heading)
        if told is not None:
            return Verdict(told, heading)
        if expects_object:
            return Verdict(CallStatus.REQUEST_FAILED, f"a web page, {heading!r}")
        return Verdict(CallStatus.OK)
    told = _told(text, max_chars=_MAX_TEXT_CHARS)
    return Verdict(CallStatus.OK) if told is None else Verdict(told, _cut(text))


def _of_object(body: dict[str, JsonValue]) -> Verdict:
    message = _message(body)
    told = _told_or_complained(message)
    if _is_failure(body):
        code = _numeric_status(body)
        if told is None and code is not None and code >= 400:
            told = _of_status(code, "").status
        return Verdict(told or CallStatus.TOOL_ERROR, message)
    if told is None or _has_value(body):
        return Verdict(CallStatus.OK)
    return Verdict(told, message)


def _is_failure(body: dict[str, JsonValue]) -> bool:
    """Whether the structure itself says that the call failed."""
    keyed = {_plain(key): value for key, value in body.items()}
    values = list(_values(body))
    has_words = any(_says_error(keyed.get(key)) for key in _WORD_KEYS)
    if any(_denies(keyed.get(key)) for key in _FLAG_KEYS):
        return has_words or not values  # a rocket launch may have `success: false` as well
    if any(_is_bad_word(keyed.get(key)) for key in _STATUS_KEYS):
        return has_words or not values
    if any(isinstance(value, dict | list) for value in values):
        return False  # a partial result beside an error (GraphQL) is still a result
    for key in _ERROR_KEYS:
        if _says_error(keyed.get(key)) and (not values or _is_sentence(keyed[key])):
            return True
    code = _numeric_status(body)
    return code is not None and code >= 400 and not values and bool(_message(body))


def _values(body: Mapping[str, JsonValue]) -> Iterator[JsonValue]:
    """What of an answer is more than a report on the call, and not empty."""
    for key, value in body.items():
        name = _plain(key)
        is_wrapped_value = name == "response" and isinstance(value, dict | list)
        if (name not in _ENVELOPE_KEYS or is_wrapped_value) and value not in (None, "", [], {}):
            yield value


def _has_value(body: Mapping[str, JsonValue]) -> bool:
    return any(True for _ in _values(body))


def _is_sentence(value: JsonValue) -> bool:
    """Whether an error is told in words; a bare number beside values may be a margin of error."""
    if isinstance(value, str):
        return bool(re.search(r"[^\W\d_]{2}", value))
    return value is True or isinstance(value, dict | list)


def _says_error(value: JsonValue) -> bool:
    if isinstance(value, bool) or value is None:
        return value is True
    if isinstance(value, str):
        return value.strip().lower() not in _GOOD_WORDS
    if isinstance(value, int | float):
        return value != 0
    if isinstance(value, dict):
        code = value.get("code")
        is_fine = _is_good(code) or _is_good(value.get("message"))
        return bool(value) and not is_fine
    return any(not isinstance(item, list) and _says_error(item) for item in value)


def _is_good(value: JsonValue) -> bool:
    if value is None or isinstance(value, bool | dict | list):
        return False
    return str(value).strip().lower() in _GOOD_WORDS


def _denies(value: JsonValue) -> bool:
    return value is False or (isinstance(value, str) and value.strip().lower() == "false")


def _is_bad_word(value: JsonValue) -> bool:
    return isinstance(value, str) and value.strip().lower() in _BAD_WORDS


def _numeric_status(body: Mapping[str, JsonValue]) -> int | None:
    """A HTTP status that the answer itself names, at its top or in its wrapper."""
    for key, value in body.items():
        name = _plain(key)
        if name in _CODE_KEYS:
            code = _as_http_status(value)
            if code is not None:
                return code
        if name in _WRAPPERS and isinstance(value, dict):
            inner = _numeric_status({k: v for k, v in value.items() if not isinstance(v, dict)})
            if inner is not None:
                return inner
    return None


def _as_http_status(value: JsonValue) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"[1-5]\d\d", value.strip()):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599:
        return value
    return None


def _message(body: JsonValue) -> str:
    """The API's words about a call, from wherever such words stand."""
    if isinstance(body, str):
        return _cut(_html_heading(body) if is_html(body) else body)
    return _cut(next(_messages(body, depth=0), ""))


def _messages(body: JsonValue, *, depth: int) -> Iterator[str]:
    if depth > 3:
        return
    if isinstance(body, list):
        for item in body[:3]:
            yield from _messages(item, depth=depth + 1)
    elif isinstance(body, str):
        if body.strip():
            yield body
    elif isinstance(body, dict):
        keyed = {_plain(key): value for key, value in body.items()}
        for key in (*_MESSAGE_KEYS, *sorted(_WRAPPERS)):
            value = keyed.get(key)
            if value is not None and (isinstance(value, dict | list) or key in _MESSAGE_KEYS):
                yield from _messages(value, depth=depth + 1)


def _told(text: str, *, max_chars: int = _MAX_PHRASE_CHARS) -> CallStatus | None:
    stripped = text.strip().strip('"').replace("_", " ")  # `invalid_token` is a phrase too
    if not stripped or len(stripped) > max_chars:
        return None
    return next((p.status for p in _PHRASES if p.pattern.search(stripped)), None)


def _told_or_complained(message: str) -> CallStatus | None:
    told = _told(message)
    if told is None and _COMPLAINT.pattern.search(message):
        return CallStatus.TOOL_ERROR
    return told


# Begins with no `\s*`: two of them around an optional mark take quadratic time on blanks, and an
# answer of 250,000 blanks would hold the event loop for minutes.
_HTML = re.compile(r"\"?\s*(?:<\?xml[^>]{0,200}>\s*)?<(?:!doctype html|html)\b", re.I)


def is_html(text: str) -> bool:
    """Whether a text is a web page, also one that was sent as a JSON string."""
    return _HTML.match(text.lstrip()) is not None


_HEADING = re.compile(r"<(title|h1|h2)\b[^>]{0,200}>([^<]{0,300})</", re.I)
_PAGE_FAILURES: Final = (
    _phrase(
        CallStatus.UNAUTHORIZED, r"\b(?:401|403)\b.{0,40}\b(?:forbidden|unauthori[sz]ed|denied)"
    ),
    _phrase(CallStatus.UNAUTHORIZED, r"^\s*(?:sign in|log ?in)\b", r"^attention required"),
    _phrase(CallStatus.UNAUTHORIZED, r"^just a moment"),
    _phrase(CallStatus.API_NOT_WORKING, r"\b(?:404|not found|50[0-4]|52\d)\b.{0,60}"),
    _phrase(CallStatus.API_NOT_WORKING, r"\berror\b", r"under maintenance", r"unavailable"),
)


def _told_by_page(heading: str) -> CallStatus | None:
    return next((p.status for p in _PAGE_FAILURES if p.pattern.search(heading)), None)


def _html_heading(text: str) -> str:
    found = [match.group(2) for match in _HEADING.finditer(text[:_MAX_HTML_CHARS])]
    return next((" ".join(heading.split()) for heading in found if heading.strip()), "")


def _plain(key: str) -> str:
    return key.lower().replace("_", "").replace("-", "").replace(" ", "")


def _cut(text: str) -> str:
    return " ".join(text[: 2 * _MAX_MESSAGE_CHARS].split())[:_MAX_MESSAGE_CHARS]

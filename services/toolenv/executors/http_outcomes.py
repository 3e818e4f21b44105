"""Turns what happened to a HTTP call into an observation, without secrets."""

from dataclasses import dataclass
from typing import Final

import httpx
from pydantic import JsonValue

from services.contracts.apis import ApiDocument
from services.contracts.toolenv import CallStatus, Observation
from services.toolenv.egress.redaction import Redactor
from services.toolenv.executors.http_reply import (
    RawBody,
    decode_body,
    says_json,
    text_of,
    without_secrets,
)
from services.toolenv.failures import Verdict, classify
from services.toolenv.observation import Keep, failed, kept, overflowed, succeeded

LABELS: Final = {
    CallStatus.UNSUBSCRIBED: "Unsubscribed",
    CallStatus.UNAUTHORIZED: "Unauthorized",
    CallStatus.BLOCKED: "Blocked",
    CallStatus.RATE_LIMITED: "Rate limit",
    CallStatus.TOO_MANY_REQUESTS: "Too many requests",
    CallStatus.API_NOT_WORKING: "API not working",
    CallStatus.TIMEOUT: "Timeout",
    CallStatus.TOOL_ERROR: "The API refused the call",
    CallStatus.REQUEST_FAILED: "Request failed",
}
_OF_CREDENTIALS: Final = frozenset(
    {CallStatus.UNSUBSCRIBED, CallStatus.UNAUTHORIZED, CallStatus.BLOCKED}
)
_MAX_ERROR_CHARS = 400


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Words for one call."""

    document: ApiDocument
    host: str
    redactor: Redactor
    credentials: tuple[str, ...]
    """Names of those that were sent."""
    is_repeatable: bool
    keep: Keep | None
    """Where an answer goes that is too long to show."""
    max_body_bytes: int
    """Longest body that is read as JSON."""
    head_bytes: int
    """What is shown of a body that exceeds its limit."""

    def of_answer(self, response: httpx.Response, raw: RawBody) -> Observation:
        """The observation of an answer; blocking where it is long."""
        observation = self._of_body(response, raw)
        return observation.model_copy(update={"upstream_status": response.status_code})

    def _of_body(self, response: httpx.Response, raw: RawBody) -> Observation:
        content_type = response.headers.get("content-type", "")
        if not raw.is_whole or len(raw.content) > self.max_body_bytes:
            return self._cut_off(response, raw)
        value = decode_body(raw.content, content_type)
        try:
            value = without_secrets(value, self.redactor)
        except RecursionError:
            return failed(CallStatus.OUTPUT_LIMIT, "the answer is nested too deeply", source="live")
        verdict = classify(
            response.status_code,
            value,
            expects_object=isinstance(self.document.template_response, dict | list),
        )
        if verdict.status is CallStatus.OK and _is_broken_json(value, content_type):
            verdict = Verdict(CallStatus.REQUEST_FAILED, "it promised JSON and sent something else")
        if verdict.status is not CallStatus.OK:
            return self._failure(verdict, response.status_code, value)
        return succeeded(value, source="live", latency_s=0.0, keep=self.keep)

    def _failure(self, verdict: Verdict, http_status: int, value: JsonValue) -> Observation:
        text = f"{LABELS[verdict.status]}: HTTP {http_status}"
        text += f": {verdict.message}" if verdict.message else ""
        if verdict.status in _OF_CREDENTIALS and self.credentials:
            names = ", ".join(repr(name) for name in self.credentials)
            text += f" (sent with credential {names})"
        try:
            observation = failed(verdict.status, text, response=value, source="live")
        except RecursionError:
            return failed(verdict.status, text, source="live")
        if observation.status is verdict.status:
            return observation
        return failed(verdict.status, text, source="live")  # the page itself is too long to show

    def _cut_off(self, response: httpx.Response, raw: RawBody) -> Observation:
        text = self.redactor.in_text(text_of(raw.content))
        head = text[: self.head_bytes]
        if response.status_code >= 300:
            return self._failure(classify(response.status_code, ""), response.status_code, head)
        ref, problem = kept(text, self.keep) if raw.is_whole else (None, "")
        return self.too_long(head, total_bytes=len(raw.content), ref=ref, problem=problem)

    def too_long(
        self, head: str, *, total_bytes: int, ref: str | None = None, problem: str = ""
    ) -> Observation:
        """An answer of which only the beginning is shown."""
        return overflowed(
            head,
            total_bytes=total_bytes,
            source="live",
            latency_s=0.0,
            ref=ref,
            problem=problem or "reading stopped there and the rest is lost",
        )

    def timed_out(self, limit_s: float) -> Observation:
        """No whole answer within the time."""
        text = f"Timeout: {self.host} did not answer within {limit_s:.3g} s"
        text += "" if self.is_repeatable else "; whether the call took effect is not known"
        return failed(CallStatus.TIMEOUT, text)

    def broken(self, status: CallStatus, text: str) -> Observation:
        """No whole answer for another reason, which `text` tells."""
        cleaned = self.redactor.in_text(" ".join(text.split()))[:_MAX_ERROR_CHARS]
        return failed(status, f"{LABELS[status]}: {self.host}: {cleaned}")


def _is_broken_json(value: JsonValue, content_type: str) -> bool:
    is_text = isinstance(value, str) and says_json(content_type)
    return is_text and str(value).lstrip()[:1] in ("{", "[", "<")

"""Messages between the host and the egress broker, over one private stream socket.

To the broker: frames of `frames` (`BrokerOrder.to_message`). From the broker: a fixed header, a
small JSON note for the host's log, and a payload. The payload is the finished frame for the worker:
the host passes it on without parsing what a hostile server sent.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import NamedTuple

from services.toolenv.sandbox.frames import FrameError, JsonValue

ORDER_FRAME_BYTES = 8 << 20  # most a host may send: a request body of base64, and secrets
MAX_NOTE_BYTES = 4096
HELLO = b"egress broker up\n"  # its first bytes, once it can take orders
HEADER = struct.Struct("<III")  # order id, bytes of the note, bytes of the payload


@dataclass(frozen=True, slots=True)
class BrokerOrder:
    """One checked request, with what the broker needs to carry it out. Holds secrets."""

    reply_to: int
    """The worker's own number of the request."""
    method: str
    url: str
    headers: list[tuple[str, str]]
    body: str
    """Base64."""
    redact: list[str]
    """Texts that must not come back."""
    timeout_s: float
    max_response_bytes: int
    frame_bytes: int
    """Largest frame the worker takes."""

    def to_message(self, order_id: int) -> dict[str, JsonValue]:
        """The wire form."""
        return {
            "t": "fetch",
            "id": order_id,
            "reply_to": self.reply_to,
            "method": self.method,
            "url": self.url,
            "headers": [[name, value] for name, value in self.headers],
            "body": self.body,
            "redact": list(self.redact),
            "timeout_s": self.timeout_s,
            "max_response_bytes": self.max_response_bytes,
            "frame_bytes": self.frame_bytes,
        }

    def __repr__(self) -> str:
        """Without secrets, whoever prints it."""
        return f"BrokerOrder({self.method}, {self.timeout_s:.3f} s)"


class Note(NamedTuple):
    """What the host logs about a request."""

    status: int
    """HTTP status, 0 when there was no answer."""
    kind: str
    """Empty, or the kind of error as the worker gets it."""
    size_bytes: int


def pack_answer(order_id: int, note: Note, payload: bytes) -> bytes:
    """The broker's answer to one order."""
    text = json.dumps(note._asdict()).encode()
    return HEADER.pack(order_id, len(text), len(payload)) + text + payload


def parse_note(text: bytes) -> Note:
    """Inverse of the note in `pack_answer`.

    Raises:
        FrameError: The broker wrote something else.
    """
    try:
        fields = json.loads(text)
        return Note(int(fields["status"]), str(fields["kind"])[:40], int(fields["size_bytes"]))
    except (ValueError, TypeError, KeyError) as error:
        raise FrameError("the egress broker's note is malformed") from error


def failure_frame(reply_to: JsonValue, kind: str, text: str) -> dict[str, JsonValue]:
    """What a worker gets instead of a response."""
    return {"t": "http_result", "id": reply_to, "kind": kind, "error": text[:2000]}

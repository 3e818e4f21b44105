"""Keys of requests: what is asked, without how the asking is named.

A conversation is hashed by its messages' digests, chained, from where it differs from the latest
one, so that a key costs the same small time at any depth.
"""

from hashlib import blake2b
from typing import Final

from pydantic import BaseModel

from services.contracts.llm import ChatRequest, FunctionSchema, Message

_DIGEST_BYTES: Final = 16
_MAX_REMEMBERED: Final = 16_384  # messages; a tree of 200 replies has about 1,000
_NOT_ASKED: Final = frozenset({"messages", "tools", "session"})
"""The first two are hashed by their parts; a session only helps an engine's cache."""


def key_of(*values: BaseModel) -> str:
    """Key of a request that is not a conversation."""
    return _hash(b"".join(_digest(value) for value in values)).hex()


class ConversationKeys:
    """Keys of one run's conversations."""

    def __init__(self) -> None:
        self._digests: dict[int, tuple[BaseModel, bytes]] = {}
        self._messages: tuple[Message, ...] = ()
        self._chain: list[bytes] = []
        """Digest of the latest conversation up to each of its messages."""
        self._tools: tuple[FunctionSchema, ...] = ()
        self._tools_digest = b""

    def key(self, request: ChatRequest) -> str:
        """Equal for requests that ask the same of the model, its seed included."""
        if request.tools != self._tools:
            self._tools = request.tools
            self._tools_digest = b"".join(self._part(tool) for tool in request.tools)
        self._follow(request.messages)
        rest = {k: v for k, v in request.__dict__.items() if k not in _NOT_ASKED}
        parts = repr(rest).encode("utf-8", "surrogatepass") + self._tools_digest + self._chain[-1]
        return _hash(parts).hex()

    def _follow(self, messages: tuple[Message, ...]) -> None:
        """Chain the digests of a conversation, from where it leaves the latest one."""
        # Messages are shared between histories, so equal ones are mostly the same object.
        same = len(self._messages)
        if messages[:same] != self._messages:
            pairs = enumerate(zip(messages, self._messages, strict=False))
            shorter = min(same, len(messages))
            same = next((n for n, (one, other) in pairs if one is not other), shorter)
        del self._chain[same:]
        for message in messages[same:]:
            past = self._chain[-1] if self._chain else b""
            self._chain.append(_hash(past + self._part(message)))
        self._messages = messages

    def _part(self, part: BaseModel) -> bytes:
        known = self._digests.get(id(part))  # what is remembered lives, so its id is its own
        if known is None:
            if len(self._digests) >= _MAX_REMEMBERED:
                self._digests.clear()
            known = self._digests[id(part)] = (part, _digest(part))
        return known[1]


def _digest(value: BaseModel) -> bytes:
    return _hash(value.model_dump_json().encode())


def _hash(data: bytes) -> bytes:
    return blake2b(data, digest_size=_DIGEST_BYTES).digest()

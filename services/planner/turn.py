"""What one turn may hold: fits prompt and reply into the model's context.

The planner has no tokenizer. It estimates from the size of the texts, and corrects itself by what
the model reports: the tokens of a prompt that was answered are known, so that of a longer prompt
only the new part is estimated.
"""

import json
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from services.contracts.llm import FunctionSchema, Message
from services.planner.compaction import Compaction

_TOKENS_PER_BYTE: Final = 1 / 3  # English has 4 characters to a token, JSON with numbers about 3
_LEAST_RATE, _MOST_RATE = 1 / 8, 1.0  # what a server reports beyond is not the whole prompt
_SAFETY: Final = 1.1  # parts of one conversation differ in their tokens per byte
_MESSAGE_BYTES: Final = 16  # role marks around a message: about 5 tokens in common templates
_MARGIN_TOKENS: Final = 32
_LEAST_REPLY_TOKENS: Final = 64  # a call with few arguments
_LEAST_REPLY_PART: Final = 4
_GUESSED_PART: Final = 0.75  # of a prompt that was refused without a number

_LENGTH_WORDS = re.compile(
    r"context|too long|too large|maximum|max_(?:new_)?tokens|token limit|shorten", re.I
)
_CONTEXT_NUMBER = re.compile(
    r"(?:context (?:length|size|window)(?: is| of)?|maximum model length of|context holds|"
    r"must be <=|token limit (?:is|of))[^\d]{0,12}(\d+)",
    re.I,
)
_PROMPT_NUMBER = re.compile(
    r"(?:(?:prompt has|resulted in|prompt \(length|given:|request \()\s*(\d+)|"
    r"(\d+) (?:input tokens|prompt tokens|in the messages|in the prompt))",
    re.I,
)


class Turn(NamedTuple):
    """A prompt with room for its reply."""

    messages: tuple[Message, ...]
    max_tokens: int
    prompt_tokens: float | None = None
    """About how many the prompt has, functions included; `None` when no context is known."""
    is_compacted: bool = False
    """Something was left out of the conversation."""
    prompt_bytes: int = 0
    """What `prompt_tokens` was reckoned from; 0 when it was not."""


class TooLong(Exception):
    """Even shortened, the conversation does not fit."""


class _Known(NamedTuple):
    """A prompt whose tokens the model reported; the messages between its ends are not kept."""

    first: Message
    last: Message
    n_messages: int
    n_bytes: int
    tools: tuple[FunctionSchema, ...]
    tokens: int


class Turns:
    """Fits the turns of one run. Cheap: a message is measured once, by identity."""

    def __init__(
        self, *, context_tokens: int | None = None, compaction: Compaction | None = None
    ) -> None:
        """Know nothing of the model's tokens yet.

        Args:
            context_tokens: Prompt and reply together; `None` when unknown, until the model refuses.
            compaction: How a conversation is shortened; `None` leaves it to the model to refuse.
        """
        self.context_tokens = context_tokens
        self._compaction = compaction
        self._rate = _TOKENS_PER_BYTE
        self._is_calibrated = False
        self._sizes: dict[int, tuple[object, int]] = {}
        """Bytes by the identity of a message or tuple of functions, which is held so that its
        identity stays its own."""
        self._known: dict[int, _Known] = {}
        """By the identity of the prompt's last message."""

    def fit(
        self, messages: tuple[Message, ...], tools: tuple[FunctionSchema, ...], *, wanted: int
    ) -> Turn:
        """The turn to send.

        Args:
            messages: The conversation.
            tools: Functions that are sent along.
            wanted: Longest reply, tokens, when there is room for it.

        Raises:
            TooLong: The model would refuse it, by what it reported of earlier prompts. Before any
                report the estimate is not trusted with that: the turn is made as short as can be.
        """
        context = self.context_tokens
        if context is None:
            return Turn(messages, wanted)
        least = min(wanted, max(_LEAST_REPLY_TOKENS, wanted // _LEAST_REPLY_PART))
        tokens, n_bytes = self._measure(messages, tools)
        room = int(context - _MARGIN_TOKENS - tokens)
        if room >= least:
            return Turn(messages, min(wanted, room), tokens, prompt_bytes=n_bytes)
        if self._compaction is None:
            return Turn(messages, max(min(room, least), 1), tokens, prompt_bytes=n_bytes)
        rate = tokens / n_bytes
        shorter = self._compaction.shorten(
            messages,
            excess_tokens=wanted - room,
            tokens_of=lambda message: rate * self._message_size(message),
        )
        tokens = rate * (self._size(shorter) + self._tools_size(tools))
        room = int(context - _MARGIN_TOKENS - tokens)
        if room < least and self._is_calibrated:
            raise TooLong(f"about {tokens:.0f} tokens, and the model's context holds {context}")
        return Turn(shorter, max(min(wanted, room), least), tokens, shorter is not messages)

    def estimate(self, messages: tuple[Message, ...], tools: tuple[FunctionSchema, ...]) -> float:
        """About how many tokens a prompt has; rather too many than too few."""
        return self._measure(messages, tools)[0]

    def _measure(
        self, messages: tuple[Message, ...], tools: tuple[FunctionSchema, ...]
    ) -> tuple[float, int]:
        """See `estimate`; and the prompt's bytes. Only what is new since a known prompt is read."""
        rate = max(self._rate * _SAFETY, _TOKENS_PER_BYTE)
        new = 0
        for count in range(len(messages), 0, -1):
            known = self._known.get(id(messages[count - 1]))
            if (
                known is not None
                and known.n_messages == count
                and known.first is messages[0]  # a message between stands in one history only
                and known.tools is tools
            ):
                return known.tokens + rate * new, known.n_bytes + new
            new += self._remembered_size(messages[count - 1])
        safe = self._rate * _SAFETY if self._is_calibrated else rate
        new += self._tools_size(tools)
        return safe * new, new

    def learn(
        self,
        turn: Turn,
        tools: tuple[FunctionSchema, ...],
        prompt_tokens: int,
        *,
        is_history: bool = True,
    ) -> None:
        """Take in how many tokens an answered prompt had; 0 when the model does not count.

        Args:
            turn: The turn that was sent.
            tools: Its functions.
            prompt_tokens: As reported.
            is_history: Its conversation is a node's history, so that longer ones begin with it.
        """
        if self.context_tokens is None or prompt_tokens == 0:
            return
        n_bytes = self._calibrate(turn, tools, prompt_tokens)
        if is_history and not turn.is_compacted:
            first, last, n = turn.messages[0], turn.messages[-1], len(turn.messages)
            self._known[id(last)] = _Known(first, last, n, n_bytes, tools, prompt_tokens)

    def learn_refusal(self, turn: Turn, tools: tuple[FunctionSchema, ...], detail: str) -> bool:
        """Take in why the model refused a turn; whether a shorter one may be tried."""
        if self._compaction is None or not is_about_length(detail):
            return False
        context, prompt_tokens = refused_numbers(detail)
        if prompt_tokens is not None:
            self._calibrate(turn, tools, prompt_tokens)
        if context is None:
            sent = self.estimate(turn.messages, tools) if prompt_tokens is None else prompt_tokens
            context = int(_GUESSED_PART * (sent + turn.max_tokens))
        self.context_tokens = min(context, self.context_tokens or context)
        return True

    def _calibrate(self, turn: Turn, tools: tuple[FunctionSchema, ...], tokens: int) -> int:
        """Take a prompt's tokens as the rate; returns its bytes."""
        n_bytes = turn.prompt_bytes or self._size(turn.messages) + self._tools_size(tools)
        self._rate = min(max(tokens / n_bytes, _LEAST_RATE), _MOST_RATE)
        self._is_calibrated = True
        return n_bytes

    def _size(self, messages: Sequence[Message]) -> int:
        return sum(map(self._message_size, messages))

    def _message_size(self, message: Message) -> int:
        found = self._sizes.get(id(message))
        return found[1] if found is not None else _bytes_of_message(message)

    def _remembered_size(self, message: Message) -> int:
        """Of a message of the tree, which is met again; a shortened one is not, and is let go."""
        size = self._message_size(message)
        self._sizes[id(message)] = (message, size)
        return size

    def _tools_size(self, tools: tuple[FunctionSchema, ...]) -> int:
        found = self._sizes.get(id(tools))
        if found is None:
            text = json.dumps([tool.model_dump() for tool in tools])
            found = self._sizes[id(tools)] = (tools, len(text))
        return found[1]


def is_about_length(detail: str) -> bool:
    """Whether a refusal's words speak of the length of prompt or reply."""
    return _LENGTH_WORDS.search(detail) is not None


def refused_numbers(detail: str) -> tuple[int | None, int | None]:
    """The context and the prompt's tokens, as far as a refusal's words name them."""
    context, prompt = _CONTEXT_NUMBER.search(detail), _PROMPT_NUMBER.search(detail)
    return _positive(context), _positive(prompt)


def _positive(match: re.Match[str] | None) -> int | None:
    digits = next(filter(None, match.groups()), "0") if match is not None else "0"
    return int(digits[:9]) or None


def _bytes_of_message(message: Message) -> int:
    texts = [message.content or "", message.name or ""]
    for call in message.tool_calls:
        texts += [call.name, call.arguments]
    return _MESSAGE_BYTES * (1 + len(message.tool_calls)) + sum(map(_bytes, texts))


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))

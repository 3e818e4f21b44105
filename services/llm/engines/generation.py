"""One reply in the making: what is sampled next, what the text is so far, when it ends.

Used by the model's thread; knows neither the model nor the event loop.
"""

import codecs
import random
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from services.contracts.errors import DeadlineExceeded, ServiceError
from services.contracts.llm import Completion, CompletionDelta, Usage
from services.llm.dialects.base import ReplyParser
from services.llm.dialects.openai import finish_reason_of
from services.llm.engines.constraint import Cursor
from services.llm.engines.vocabulary import TokenVocabulary, ends_alphanumeric


@dataclass(frozen=True, slots=True)
class Choice:
    """How one token is chosen from the model's scores."""

    allowed: frozenset[int] | None = None
    """Tokens to choose from; `None` means all."""
    temperature: float = 0.0
    """0 takes the best one."""
    chance: float = 0.0
    """In [0, 1): where in the cumulated probabilities the sampled token lies."""


Emit = Callable[[CompletionDelta | ServiceError], None]
"""Takes the pieces of a reply in order; the last one is a completion or an error."""


class Generation:
    """See the module."""

    def __init__(
        self,
        *,
        prompt_ids: Sequence[int],
        max_new_tokens: int,
        vocabulary: TokenVocabulary,
        stop_ids: Collection[int],
        parser: ReplyParser,
        emit: Emit,
        deadline: float,
        cursor: Cursor | None = None,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        seed: int | None = None,
        wants_text: bool = False,
    ) -> None:
        """Prepare one reply.

        Args:
            prompt_ids: Tokens of the prompt; not empty.
            max_new_tokens: Longest reply, at least 1.
            vocabulary: Text of the tokens.
            stop_ids: Tokens that end the reply.
            parser: Reads the reply; may end it early.
            emit: Called in the model's thread.
            deadline: Monotonic time after which the reply is given up.
            cursor: Constraint on the reply.
            stop: Texts that end the reply and are no part of it.
            temperature: 0 is greedy.
            seed: Of the sampling; `None` draws one.
            wants_text: Emit the text as it grows.
        """
        self.prompt_ids = tuple(prompt_ids)
        self.deadline = deadline
        self.is_cancelled = False
        self._max_new_tokens = max_new_tokens
        self._vocabulary, self._stop_ids = vocabulary, frozenset(stop_ids)
        self._parser, self._emit, self._cursor = parser, emit, cursor
        self._stop = tuple(text for text in stop if text)
        self._held_chars = max((len(text) - 1 for text in self._stop), default=0)
        self._temperature, self._random = temperature, random.Random(seed)
        self._wants_text = wants_text
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._tail, self._text, self._n_read, self._n_tokens = b"", "", 0, 0

    def choice(self) -> Choice:
        """How the next token is to be chosen."""
        return Choice(
            allowed=None if self._cursor is None else self._cursor.allowed(),
            temperature=self._temperature,
            chance=self._random.random() if self._temperature > 0 else 0.0,
        )

    def accept(self, token_id: int) -> bool:
        """Take the next token; True when it was the last one and the completion is emitted."""
        self._n_tokens += 1
        if token_id in self._stop_ids:
            return self._finish("stop")
        if self._cursor is not None:
            self._cursor.accept(token_id)
        after = ends_alphanumeric(self._tail)
        piece = self._vocabulary.piece(token_id, after_alphanumeric=after)
        self._tail = (self._tail + piece)[-4:]
        if self._add(self._decoder.decode(piece)):
            return self._finish("stop")
        return self._n_tokens >= self._max_new_tokens and self._finish("length")

    def _add(self, text: str) -> bool:
        """Append text; True when it ends the reply."""
        searched = max(len(self._text) - self._held_chars, 0)
        self._text += text
        ends = [at for stop in self._stop if (at := self._text.find(stop, searched)) >= 0]
        if ends:
            self._text = self._text[: min(ends)]
            return True
        self._read_until(len(self._text) - self._held_chars)
        return self._parser.is_complete

    def _read_until(self, end: int) -> None:
        """Hand on the text that no stop text can take back."""
        piece = self._text[self._n_read : max(end, self._n_read)]
        if not piece:
            return
        self._n_read += len(piece)
        self._parser.feed(piece)
        if self._wants_text:
            self._emit(CompletionDelta(text=piece))

    def _finish(self, reason: str) -> bool:
        self._text += self._decoder.decode(b"", final=True)
        self._read_until(len(self._text))
        message = self._parser.message()
        completion = Completion(
            message=message,
            usage=Usage(prompt_tokens=len(self.prompt_ids), completion_tokens=self._n_tokens),
            finish_reason=finish_reason_of(reason, message),
            raw_text=self._text,
        )
        self._emit(CompletionDelta(completion=completion))
        return True

    def is_abandoned(self) -> bool:
        """Whether nobody waits for the reply any more; a passed deadline is emitted as an error."""
        if self.is_cancelled:
            return True
        if time.monotonic() < self.deadline:
            return False
        self.fail(DeadlineExceeded(f"the reply stood at {self._n_tokens} tokens at its deadline"))
        return True

    def fail(self, error: ServiceError) -> None:
        """End the reply with an error."""
        self._emit(error)

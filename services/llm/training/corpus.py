"""Training files read into token arrays.

A file is JSONL, plain or gzipped, one conversation a line: `{"id", "tools", "messages", "train"?}`
in OpenAI's shapes, where `train` lists the indexes of the messages whose loss counts (default:
every assistant message).
"""

import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from services.llm.training.config import TrainingError
from services.llm.training.render import (
    ACTION,
    ACTION_INPUT,
    ASSISTANT,
    END,
    THOUGHT,
    JsonObject,
    render_conversation,
)


class Part(IntEnum):
    """What a token belongs to; everything but `NONE` is trained."""

    NONE = 0
    THOUGHT = 1
    API = 2
    ARGUMENTS = 3


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation of a training file.

    Attributes:
        trained: For every assistant message in order, whether its loss counts.
    """

    id: str
    tools: Sequence[JsonObject]
    messages: Sequence[JsonObject]
    trained: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids (length,) int64 and the `Part` of each token (length,) int8."""

    ids: NDArray[np.int64]
    parts: NDArray[np.int8]


def files_sha256(paths: Sequence[Path]) -> str:
    """Hash of the files' bytes in the given order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


class ConversationStore(Sequence[Conversation]):
    """Conversations of several files, kept as text and parsed on access: a tenth of the memory."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read and check every line.

        Raises:
            TrainingError: A line is not a conversation; names file and line.
        """
        self._lines = [item for path in paths for item in _lines(path)]
        for where, line in self._lines:
            _conversation(line, where)

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> Conversation: ...
    @overload
    def __getitem__(self, index: slice) -> list[Conversation]: ...
    def __getitem__(self, index: int | slice) -> Conversation | list[Conversation]:
        if isinstance(index, slice):
            return [_conversation(line, where) for where, line in self._lines[index]]
        where, line = self._lines[index]
        return _conversation(line, where)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Where each line stands, and the line; gzip by suffix."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path.name}:{number}", line
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise TrainingError(f"cannot read training file {str(path)!r}: {error}") from error


def _conversation(line: str, where: str) -> Conversation:
    try:
        record = json.loads(line)
        messages = record["messages"]
        assistants = [
            index for index, message in enumerate(messages) if message["role"] == "assistant"
        ]
        chosen = set(record.get("train", assistants))
        return Conversation(
            id=str(record.get("id", where)),
            tools=record.get("tools") or [],
            messages=messages,
            trained=tuple(index in chosen for index in assistants),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{where} is not a conversation with 'messages' ({error!r}); see services/dataset"
        ) from error


class Encoder:
    """Turns conversations into token ids with the part of every token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        ids = {
            token: tokenizer.token_to_id(token)
            for token in (ASSISTANT, THOUGHT, ACTION, ACTION_INPUT, END)
        }
        missing = [token for token, id_ in ids.items() if id_ is None]
        if missing:
            raise TrainingError(
                f"the tokenizer lacks the markers {missing!r}; build it with `train_tokenizer`"
            )
        self._assistant, self._end = ids[ASSISTANT], ids[END]
        self._opens = {
            ids[THOUGHT]: Part.THOUGHT,
            ids[ACTION]: Part.API,
            ids[ACTION_INPUT]: Part.ARGUMENTS,
        }

    def encode(self, conversations: Sequence[Conversation]) -> list[Encoded]:
        """Token ids and parts of each conversation, in order."""
        texts = [render_conversation(item.messages, item.tools) for item in conversations]
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [
            Encoded(
                ids=(ids := np.asarray(encoding.ids, dtype=np.int64)),
                parts=self._parts(ids, item.trained),
            )
            for encoding, item in zip(encodings, conversations, strict=True)
        ]

    def _parts(self, ids: NDArray[np.int64], trained: Sequence[bool]) -> NDArray[np.int8]:
        """Mark each trained turn, from after its role marker up to and including the end token."""
        parts = np.zeros(len(ids), dtype=np.int8)
        starts = np.flatnonzero(ids == self._assistant)
        ends = np.flatnonzero(ids == self._end)
        for start, is_trained in zip(starts, trained, strict=True):
            if not is_trained:
                continue
            end = int(ends[np.searchsorted(ends, start)]) + 1
            part = Part.THOUGHT
            for index in range(int(start) + 1, end):
                part = self._opens.get(int(ids[index]), part)
                parts[index] = part
        return parts

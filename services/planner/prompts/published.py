"""Reads the texts that ToolLLaMA was trained with from files that were published with it.

They stand in every training file (`toolllama_G123_dfs_train.json`) and in every answer file of
ToolBench and StableToolBench. A text is taken only when its SHA-256 is the known one (interop,
appendix A), so that a file of somebody else's, or a damaged one, cannot pass for the original.
"""

import ast
import codecs
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Final, NamedTuple

from pydantic import JsonValue

from services.contracts.errors import InvalidArgument
from services.planner.prompts.toolbench import CANDIDATES_MARK, TASK_MARK, ToolBenchTexts

_MAX_ANSWER_BYTES: Final = 256 << 20
_MAX_SAMPLE_CHARS: Final = 64 << 20
_PIECE_BYTES: Final = 1 << 20


class Fingerprint(NamedTuple):
    """Length and hash of a published text."""

    chars: int
    sha256: str


FINGERPRINTS: Final[Mapping[str, tuple[Fingerprint, ...]]] = {
    "system": (
        Fingerprint(917, "7be72b1b30e0bda52d218ff961ff07719d581b04966a302a8760558b3aec0f40"),
    ),
    "header": (
        Fingerprint(458, "9a91eea9a6700da78575c4b10bff20cdc29d8452d466ce7252770b3da679ff6d"),
    ),
    "diversity": (
        Fingerprint(502, "60060deea4b0d4de5cf20588949cfb129244780ba49fff374ec45520a3889982"),
    ),
    "finish": (
        Fingerprint(445, "949740fbd807a4ae842c2354d2b5f03c28ce4c1fd61fa49429efe022146387e6"),
        Fingerprint(384, "ed6396e813d69e8d754a045272851386a37dc9bcf22519aaec1cbaab0f319177"),
    ),
    "final_answer": (
        Fingerprint(102, "0582f95e404ddce73ad9dcd9339439dbc57ddde9223ec8e4ce8bf547ddba2f22"),
    ),
}
"""By the fields of `ToolBenchTexts`. Of Finish there are two: the current text, then the older."""

_APIS_MARK: Final = "\nSpecifically, you have access to the following APIs: "
# Stands after the anchor sentence in training text; it is the dialect's, not the prompt's.
_FORMAT: Final = " Your output should follow this format:\nThought:\nAction\nAction Input:\n"


def is_genuine(field: str, text: str) -> bool:
    """Whether a text is the published one of that name."""
    known = {mark.sha256 for mark in FINGERPRINTS[field] if mark.chars == len(text)}
    return bool(known) and hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() in known


def published_texts(file: BinaryIO, *, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """The genuine texts in a training or answer file, by the fields of `ToolBenchTexts`.

    Possibly not all: an answer file without back-tracking has no `diversity`. Of the two texts of
    Finish the current one is preferred. A training file, which may have gigabytes, is read no
    further than until all are found.

    Args:
        file: At its start.
        known: Genuine texts that are there already.

    Returns:
        Texts of this file that are new or better than what is known, or just as good.

    Raises:
        InvalidArgument: The file is neither kind, or none of its texts is genuine.
    """
    kept, found = dict(known or {}), dict[str, str]()
    for field, text in _candidates(file):
        if not is_genuine(field, text):
            continue
        if field != "finish" or field not in kept or _is_current_finish(text):
            found[field] = kept[field] = text
        if found.keys() == FINGERPRINTS.keys() and _is_current_finish(found["finish"]):
            break
    if not found:
        raise InvalidArgument(
            "it holds none of ToolLLaMA's texts (their SHA-256 is known); give a published "
            "training file (toolllama_G123_dfs_train.json) or an answer file of ToolBench"
        )
    return found


def _is_current_finish(text: str) -> bool:
    return len(text) == FINGERPRINTS["finish"][0].chars


def _candidates(file: BinaryIO) -> Iterator[tuple[str, str]]:
    """Pieces of the file that may be one of the texts, with the field each may be."""
    start = file.read(_PIECE_BYTES)
    if start.lstrip().startswith(b"["):
        for sample in _samples(start, file):
            yield from _of_sample(sample)
        return
    data = start + file.read(_MAX_ANSWER_BYTES)
    if len(data) > _MAX_ANSWER_BYTES:
        raise InvalidArgument(f"an answer file has at most {_MAX_ANSWER_BYTES} bytes")
    try:
        answer: JsonValue = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise InvalidArgument(f"it is no JSON: {exc}") from exc
    if isinstance(answer, dict):
        yield from _of_answer(answer)


def _samples(start: bytes, file: BinaryIO) -> Iterator[dict[str, JsonValue]]:
    """Elements of a JSON array, read one after the other.

    Raises:
        InvalidArgument: The text breaks off, or an element is no JSON or too long.
    """
    decoder = json.JSONDecoder()
    to_text = codecs.getincrementaldecoder("utf-8")("replace")
    text = to_text.decode(start).lstrip()[1:]
    while True:
        text = text.lstrip(" \t\r\n,")
        if text.startswith("]"):
            return
        try:
            sample, end = decoder.raw_decode(text)
        except (ValueError, RecursionError) as exc:
            piece = file.read(_PIECE_BYTES)
            if not piece or len(text) > _MAX_SAMPLE_CHARS:
                raise InvalidArgument(f"it is no JSON: {exc}") from exc
            text += to_text.decode(piece)
            continue
        text = text[end:]
        if isinstance(sample, dict):
            yield sample


def _of_answer(answer: dict[str, JsonValue]) -> Iterator[tuple[str, str]]:
    match answer:
        case {"answer_generation": {"function": list(functions), **rest}}:
            for function in functions:
                yield from _of_function(function)
            dialogues = rest.get("train_messages")
            for dialogue in dialogues if isinstance(dialogues, list) else ():
                for message in dialogue if isinstance(dialogue, list) else ():
                    match message:
                        case {"role": "system", "content": str(text)}:
                            yield from _of_system(text)
                        case {"role": "user", "content": str(text)}:
                            yield from _of_user(text)


def _of_sample(sample: dict[str, JsonValue]) -> Iterator[tuple[str, str]]:
    turns = sample.get("conversations")
    for turn in turns if isinstance(turns, list) else ():
        match turn:
            case {"from": "system", "value": str(text)}:
                prompt, _, functions = text.partition(_APIS_MARK)
                yield from _of_system(prompt)
                for function in _python_list(functions):
                    yield from _of_function(function)
            case {"from": "user", "value": str(text)}:
                yield from _of_user(text)


def _of_system(text: str) -> Iterator[tuple[str, str]]:
    # The template ends with its place holder; the header follows, then the tools.
    text = text.replace(_FORMAT, "", 1)
    begins = FINGERPRINTS["system"][0].chars - len(TASK_MARK)
    yield "system", text[:begins] + TASK_MARK
    yield "header", text[begins : begins + FINGERPRINTS["header"][0].chars]


def _of_user(text: str) -> Iterator[tuple[str, str]]:
    before, bracket, _ = text.partition("[\n")
    words = FINGERPRINTS["diversity"][0].chars - len(CANDIDATES_MARK)
    if bracket and len(before) < words:
        after = text[len(text) - (words - len(before)) :]
        yield "diversity", before + CANDIDATES_MARK + after


def _of_function(function: JsonValue) -> Iterator[tuple[str, str]]:
    match function:
        case {"function": dict(inner)}:
            yield from _of_function(inner)
        case {"name": "Finish", "description": str(text), "parameters": {"properties": shown}}:
            yield "finish", text
            match shown:
                case {"final_answer": {"description": str(answer)}}:
                    yield "final_answer", answer


def _python_list(text: str) -> list[JsonValue]:
    """The functions as training text has them: a Python list, printed."""
    try:
        parsed = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    return parsed if isinstance(parsed, list) else []


def texts_of(found: Mapping[str, str]) -> ToolBenchTexts:
    """The texts, our own words where one is missing."""
    return ToolBenchTexts(**found)

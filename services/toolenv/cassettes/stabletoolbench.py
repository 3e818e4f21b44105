"""Reads the cache folders of StableToolBench (interop 3.3, step 4).

`<category>/<tool>_for_<category>/<api>.json` is an object whose keys are the arguments as Python
prints them, `str({...})`, and whose values are whole replies. The keys are read as literals, never
evaluated. That cache does not say which replies were real and which simulated, nor when they were
made: all are labelled `remote`, and take the time of their file.
"""

import ast
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import JsonValue, ValidationError

from services.contracts.apis import ApiRef
from services.contracts.errors import InvalidArgument, NotFound
from services.contracts.toolbench.names import api_identifier, standardize, standardize_category
from services.contracts.toolenv import MAX_ARGUMENTS_CHARS, CallStatus
from services.toolenv.cassettes.recording import Answer, Recording, check_sizes, recording_of
from services.toolenv.cassettes.rows import Conflict
from services.toolenv.cassettes.snapshot import build_file, staging
from services.toolenv.cassettes.store import Added, Store
from services.toolenv.protocol import status_of_error

MAX_FILE_BYTES: Final = 64 << 20
"""Longest file that is read; published ones stay below 5 MB."""
_MAX_NESTING = 64  # the parser behind `literal_eval` must not meet hostile depth
_ANSWERS: Final = frozenset({CallStatus.OK, CallStatus.TOOL_ERROR})
_ROOT = "tool_response_cache"


class Refused(NamedTuple):
    """A file, or an entry of one, that was not taken over."""

    file: str
    """Below the cache folder."""
    key: str
    """Of the entry, shortened; empty when it is the whole file."""
    reason: str


class CacheImport(NamedTuple):
    """What the import of a cache folder did."""

    files: int
    """Files that were looked at."""
    added: Added
    repeated: int
    """Entries whose call an earlier entry spells in another way; the first is taken."""
    refused: tuple[Refused, ...]


def import_cache(
    store: Store, folder: Path, *, keep_failures: bool = False, on_conflict: Conflict = "keep"
) -> CacheImport:
    """Take over a cache folder; what cannot be taken is reported and does not stop the rest.

    Args:
        store: It may be in use, and is locked only for the copy at the end.
        folder: `tool_response_cache`, or the folder above it.
        keep_failures: Take replies, too, that tell of a failure of the server or of a simulation
            instead of an answer.
        on_conflict: What happens to calls that are recorded already.

    Raises:
        NotFound: There is no such folder.
        ServiceError: As `Store.absorb`.
    """
    reader = CacheReader(folder, keep_failures=keep_failures)
    with staging(store.path.parent) as work:
        new = work / "import.db"
        n_staged = build_file(new, reader.recordings())
        added = store.absorb(new, on_conflict=on_conflict)
    return CacheImport(reader.n_files, added, reader.n_recordings - n_staged, tuple(reader.refused))


class CacheReader:
    """Reads one cache folder; the counts are complete when `recordings` has ended."""

    def __init__(self, folder: Path, *, keep_failures: bool = False) -> None:
        """Bind a folder.

        Raises:
            NotFound: There is no such folder.
        """
        if not folder.is_dir():
            raise NotFound(
                f"there is no folder {str(folder)!r}; name StableToolBench's {_ROOT} folder, laid "
                "out as <category>/<tool>_for_<category>/<api>.json"
            )
        self._root = folder / _ROOT if (folder / _ROOT).is_dir() else folder
        self._keep_failures = keep_failures
        self.n_files = 0
        self.n_recordings = 0
        self.refused: list[Refused] = []

    def recordings(self) -> Iterator[Recording]:
        """Every entry that can be taken, in the order of the file names."""
        for path in sorted(self._root.glob("*/*/*.json")):
            self.n_files += 1
            file = path.relative_to(self._root).as_posix()
            try:
                ref, entries, recorded_at = _read_file(path)
            except _Unusable as exc:
                self.refused.append(Refused(file, "", str(exc)))
                continue
            for key, reply in entries.items():
                try:
                    recording = self._recording(ref, key, reply, recorded_at)
                except _Unusable as exc:
                    self.refused.append(Refused(file, _shortened(key), str(exc)))
                    continue
                self.n_recordings += 1
                yield recording

    def _recording(self, ref: ApiRef, key: str, reply: JsonValue, recorded_at: float) -> Recording:
        status, content = _answer(reply)
        if status not in _ANSWERS and not self._keep_failures:
            raise _Unusable(
                f"it tells of a failure ({status.value}), not what the API answers; "
                "--keep-failures takes it all the same"
            )
        answer = Answer(content, status, "remote", None, 0.0, recorded_at)
        try:
            recording = recording_of(ref, parse_arguments_key(key), answer)
            check_sizes(recording, where="entry")
        except InvalidArgument as exc:
            raise _Unusable(exc.detail) from exc
        except ValueError as exc:
            raise _Unusable(str(exc)) from exc
        return recording


class _Unusable(Exception):
    """Why a file or an entry is refused."""


def _read_file(path: Path) -> tuple[ApiRef, dict[str, JsonValue], float]:
    ref = _ref_of(path)
    try:
        if not path.is_file():  # opening a pipe would wait for a writer for ever
            raise _Unusable("it is not a regular file")
        with path.open("rb") as stream:
            recorded_at = os.fstat(stream.fileno()).st_mtime
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise _Unusable(f"it cannot be read: {exc.strerror}") from exc
    if len(content) > MAX_FILE_BYTES:
        raise _Unusable(f"it exceeds the limit of {MAX_FILE_BYTES} bytes")
    if not content.strip():
        raise _Unusable("it is empty, as an interrupted write leaves it")
    try:
        entries = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as exc:
        raise _Unusable(f"it is not JSON: {exc}") from exc
    if not isinstance(entries, dict):
        raise _Unusable(f"it holds a JSON {type(entries).__name__}, not an object of replies")
    return ref, entries, recorded_at


def _ref_of(path: Path) -> ApiRef:
    """Address of the API whose cache file this is; folder names may be raw or standard."""
    folder, category = path.parent.name, path.parent.parent.name
    for suffix in (f"_for_{category}", f"_for_{standardize_category(category)}"):
        if folder.endswith(suffix):
            folder = folder.removesuffix(suffix)
            break
    try:
        return ApiRef(
            category=standardize_category(category),
            tool=standardize(folder),
            api=api_identifier(path.stem),
        )
    except ValidationError as exc:
        field = exc.errors(include_url=False, include_input=False)[0]
        raise _Unusable(f"its path names no API: {field['loc'][0]}: {field['msg']}") from exc


def _answer(reply: JsonValue) -> tuple[CallStatus, str]:
    if not isinstance(reply, dict) or "error" not in reply or "response" not in reply:
        raise _Unusable("its value is no reply with 'error' and 'response'")
    try:
        content = json.dumps(reply, allow_nan=False)
    except (ValueError, RecursionError) as exc:
        raise _Unusable(f"its reply cannot be written as JSON: {exc}") from exc
    return status_of_error(reply["error"], as_reference=False), content


def parse_arguments_key(text: str) -> dict[str, JsonValue]:
    """The arguments that a key of the cache prints.

    Raises:
        ValueError: The text is no Python literal of a JSON object within the limits.
    """
    if len(text) > MAX_ARGUMENTS_CHARS:
        raise ValueError(f"{len(text)} characters exceed the limit of {MAX_ARGUMENTS_CHARS}")
    if _nesting(text) > _MAX_NESTING:
        raise ValueError(f"it is nested deeper than {_MAX_NESTING} levels")
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as exc:
        reason = str(exc).partition("\n")[0][:120] or type(exc).__name__
        raise ValueError(f"it is no Python literal: {reason}") from exc
    if not isinstance(value, dict):
        raise ValueError(f"it prints a {type(value).__name__}, not an object of arguments")
    return _json_object(value)


def _nesting(text: str) -> int:
    """An upper bound of the depth of brackets; those within strings count as well."""
    depth = deepest = 0
    for character in text:
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}" and depth:
            depth -= 1
    return deepest


def _json_object(value: dict[object, object]) -> dict[str, JsonValue]:
    return {_name(name): _json(item) for name, item in value.items()}


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise ValueError(f"{name!r} names an argument; JSON has only text for that")
    return name


def _json(value: object) -> JsonValue:
    if isinstance(value, dict):
        return _json_object(value)
    if isinstance(value, list):
        return [_json(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ValueError(f"{repr(value)[:40]} ({type(value).__name__}) is no JSON value")


def _shortened(key: str) -> str:
    return key if len(key) <= 120 else f"{key[:119]}…"

"""What is indexed of each API: its texts, its address, and the hash of the whole collection.

Two dense templates exist because encoders differ in what they were trained on:

* `toolbench`: the text that ToolBench's released encoder was trained on (interop 7.3; reference
  `toolbench/utils.py`), reproduced byte for byte;
* `short`: names, description and parameter names only, for encoders of general English whose
  window (256 word pieces for MiniLM) a response schema would fill with JSON punctuation.

The lexical channel always reads one text of its own, because BM25 punishes length.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from pydantic import JsonValue

from services.contracts.apis import ApiDocument, ApiParameter, ApiRef

TEXT_VERSION = 1
"""Raised whenever a template below changes, so that older indexes are not taken for current."""


class TextTemplate(StrEnum):
    """Text of a document that the encoder reads."""

    TOOLBENCH = "toolbench"
    SHORT = "short"


@dataclass(frozen=True, slots=True)
class CorpusEntry:
    """One API as the index sees it."""

    ref: ApiRef
    dense_text: str
    lexical_text: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """Entries with different addresses, sorted by address, and their hash."""

    entries: tuple[CorpusEntry, ...]
    digest: str
    """SHA-256 over addresses and texts, 64 hex digits; independent of the order of the input."""


def build_corpus(documents: Iterable[ApiDocument], template: TextTemplate) -> Corpus:
    """Texts of all documents, one per `ApiRef`; of several with one address the first counts."""
    by_ref: dict[ApiRef, CorpusEntry] = {}
    for document in documents:
        if document.ref not in by_ref:
            by_ref[document.ref] = CorpusEntry(
                ref=document.ref,
                dense_text=dense_text(document, template),
                lexical_text=lexical_text(document),
            )
    entries = tuple(sorted(by_ref.values(), key=lambda entry: ref_key(entry.ref)))
    digest = hashlib.sha256()
    for entry in entries:
        row = [*ref_key(entry.ref), entry.dense_text, entry.lexical_text]
        digest.update(json.dumps(row).encode() + b"\n")
    return Corpus(entries=entries, digest=digest.hexdigest())


def ref_key(ref: ApiRef) -> tuple[str, str, str]:
    """The address as a tuple: its sort order, and its form in a payload."""
    return ref.category, ref.tool, ref.api


def dense_text(document: ApiDocument, template: TextTemplate) -> str:
    """Text of one document under a template; see the module."""
    match template:
        case TextTemplate.TOOLBENCH:
            return toolbench_text(document)
        case TextTemplate.SHORT:
            return short_text(document)


def toolbench_text(document: ApiDocument) -> str:
    """Text of interop 7.3.

    `ApiDocument` keeps no difference between a missing parameter list and an empty one, and none
    between a missing response and a null one: the lists are written as lists (`[]` when empty, as
    all published documents have it), an absent response as `""`.
    """
    response = "" if document.template_response is None else document.template_response
    return (
        f"{document.category_name}, {document.tool_name}, {document.api_name}, "
        f"{document.description}, "
        f"required_params: {_parameters_json(document.required_parameters)}, "
        f"optional_params: {_parameters_json(document.optional_parameters)}, "
        f"return_schema: {json.dumps(response)}"
    )


def _parameters_json(parameters: tuple[ApiParameter, ...]) -> str:
    return json.dumps([parameter.model_dump(exclude={"json_schema"}) for parameter in parameters])


def short_text(document: ApiDocument) -> str:
    """Category, tool, API and description, then the names of the parameters."""
    names = ", ".join(parameter.name for parameter in _all_parameters(document))
    head = f"{document.category_name}, {document.tool_name}, {document.api_name}"
    parts = (head, document.description.strip(), f"parameters: {names}" if names else "")
    return ". ".join(part for part in parts if part)


def lexical_text(document: ApiDocument) -> str:
    """Every word a user might share with the document: names, descriptions, response keys."""
    parts = [
        document.category_name,
        document.tool_name,
        document.api_name,
        document.description,
        document.tool_description,
    ]
    for parameter in _all_parameters(document):
        parts += (parameter.name, parameter.description)
    parts += _schema_keys(document.template_response)
    return "\n".join(part for part in parts if part)


def _all_parameters(document: ApiDocument) -> tuple[ApiParameter, ...]:
    return (*document.required_parameters, *document.optional_parameters)


def _schema_keys(schema: JsonValue) -> list[str]:
    """Different keys of a response schema, outermost first."""
    seen: dict[str, None] = {}
    pending: deque[JsonValue] = deque([schema])
    while pending:
        value = pending.popleft()
        if isinstance(value, dict):
            seen.update(dict.fromkeys(key for key in value if key != "_list_length"))
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return list(seen)

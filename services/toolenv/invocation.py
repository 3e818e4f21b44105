"""One call on its way through the executors: parsed once, with its content address."""

import json
from dataclasses import dataclass
from typing import NoReturn

from pydantic import JsonValue

from services.contracts.toolbench.names import api_identifier
from services.contracts.toolenv import MAX_ARGUMENTS_CHARS
from services.toolenv.cassettes.key import canonical, key_of
from services.toolenv.catalog import CatalogueEntry

_SURELY_SHALLOW = 400  # levels that every JSON writer manages


@dataclass(frozen=True, slots=True)
class Invocation:
    """A call of a known API. Made by `prepare`."""

    entry: CatalogueEntry
    arguments_text: str
    """The model's text, verbatim."""
    arguments: dict[str, JsonValue] | None
    """What it says, under the names the model was shown; `None` when it is no JSON object."""
    problem: str
    """Why there are no arguments, for the model to read; empty when there are."""
    key: str | None
    """Content address; `None` without arguments."""
    user: str | None = None
    """Whose credentials are used first."""


def prepare(entry: CatalogueEntry, arguments_text: str, *, user: str | None = None) -> Invocation:
    """Parse a call's arguments; never raises for what they hold."""
    try:
        arguments, written = _parse(arguments_text)
    except ValueError as exc:
        return Invocation(entry, arguments_text, None, str(exc), None, user)
    ref = entry.document.ref
    key = key_of(ref.category, ref.tool, ref.api, written)
    return Invocation(entry, arguments_text, arguments, "", key, user)


def parse_arguments(text: str) -> dict[str, JsonValue]:
    """The model's arguments as an object; empty text is the empty object, as in the reference.

    Raises:
        ValueError: The text is not a JSON object; the message says what is wrong with it.
    """
    return _parse(text)[0]


def _parse(text: str) -> tuple[dict[str, JsonValue], bytes]:
    """The arguments, and their canonical form; errors as in `parse_arguments`."""
    if len(text) > MAX_ARGUMENTS_CHARS:
        raise ValueError(
            f"{len(text)} characters of arguments exceed the limit of {MAX_ARGUMENTS_CHARS}"
        )
    if not text.strip():
        return {}, b"{}"
    try:
        arguments = _decode(text)
        # What cannot be written back as JSON (1e999, half a surrogate pair) cannot be handed over.
        written = canonical(arguments)
        if text.count("[") + text.count("{") > _SURELY_SHALLOW:
            _encode(arguments)  # the canonical form needs no stack, but everybody else does
    except RecursionError as exc:
        raise ValueError("the arguments are nested too deeply") from exc
    except ValueError as exc:
        raise ValueError(f"the arguments are not JSON: {exc}") from exc
    if not isinstance(arguments, dict):
        kind = type(arguments).__name__
        raise ValueError(f'the arguments must be a JSON object such as {{"name": 1}}, not a {kind}')
    return arguments, written


def check_names(invocation: Invocation) -> str:
    """What is wrong with the names of an invocation's arguments; empty when nothing is.

    Types and presence are left to whoever executes the call, as in the reference.
    """
    document = invocation.entry.document
    arguments = invocation.arguments or {}
    accepted = tuple(
        dict.fromkeys(
            api_identifier(parameter.name)
            for parameter in document.required_parameters + document.optional_parameters
        )
    )
    unknown = [name for name in arguments if name not in accepted]
    if unknown:
        shown = ", ".join(repr(name[:80]) for name in unknown[:10])
        return f"TypeError: {document.ref.api} has no parameter {shown}; {accepts(accepted)}"
    return ""


def accepts(names: tuple[str, ...]) -> str:
    """`it accepts a, b` for the end of an error text."""
    return f"it accepts {', '.join(names)}" if names else "it accepts no parameters"


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")


# Made once: `json.loads` and `json.dumps` build a new one per call when given options.
_decode = json.JSONDecoder(parse_constant=_not_json).decode
_encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False).encode

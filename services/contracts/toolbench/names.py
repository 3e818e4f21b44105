"""ToolBench's name standardisation (interop 1.3; reference `toolbench/utils.py`), and ours on top.

The transforms address files and functions of published data, so they are reproduced exactly,
including the caret that survives and the seven reserved words. Where that is not enough, for Python
and for models that accept `[A-Za-z0-9_-]{1,64}` only, `python_identifier` and `distinct_names` go
on from their results.
"""

import hashlib
import keyword
import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

from services.contracts.apis import ApiRef

_OUTSIDE: Final = re.compile(r"[^\u4e00-\u9fa5a-zA-Z0-9_^]")
_UNDERSCORES: Final = re.compile(r"_{2,}")
_RESERVED: Final = frozenset({"from", "class", "return", "false", "true", "id", "and"})
_NOT_IN_FUNCTION_NAMES: Final = re.compile(r"[^a-zA-Z0-9_-]+")
MAX_FUNCTION_NAME_CHARS: Final = 64
_DIGEST_CHARS: Final = 8  # 32 bits: two of 16,000 names meet with a probability of 3 %, and then
# a longer digest tells them apart


def standardize(name: str) -> str:
    """Standard form of a tool, API or parameter name; empty when nothing is left."""
    text = _UNDERSCORES.sub("_", _OUTSIDE.sub("_", name)).lower()
    text = text.removeprefix("_").removesuffix("_")
    return f"get_{text}" if text[:1].isascii() and text[:1].isdigit() else text


def change_name(name: str) -> str:
    """Prefix the seven names that the reference knows to be reserved with `is_`."""
    return f"is_{name}" if name in _RESERVED else name


def api_identifier(name: str) -> str:
    """The "pure api name": Python function of `api.py`; also used for parameters."""
    return change_name(standardize(name))


def standardize_category(category: str) -> str:
    """Standard form of a category: the name of its folder."""
    text = category.replace(" ", "_").replace(",", "_").replace("/", "_")
    return text.replace("__", "_")


def function_name(api: str, tool: str) -> str:
    """Name under which a model calls an API: the last 64 characters of `<api>_for_<tool>`.

    Args:
        api: Pure API name (`api_identifier`).
        tool: Standard tool name (`standardize`).
    """
    return f"{api}_for_{tool}"[-MAX_FUNCTION_NAME_CHARS:]


def python_identifier(name: str) -> str:
    """Name of the Python function or argument for an API or parameter.

    It is `api_identifier`, except that every Python keyword gets the prefix `is_` (the reference
    knows seven) and the caret becomes `_`. Empty when nothing is left of the name.

    Args:
        name: Raw, or in standard form.
    """
    text = api_identifier(name).replace("^", "_")
    return f"is_{text}" if keyword.iskeyword(text) else text


def distinct_names(refs: Iterable[ApiRef], *, taken: Iterable[str] = ()) -> dict[ApiRef, str]:
    """Names under which APIs are shown to a model that accepts `[A-Za-z0-9_-]{1,64}`.

    A name that is valid, short enough and nobody else's is ToolBench's own. Every other one ends in
    a digest of the API's address, so it depends neither on the order of the APIs nor on which
    others are shown; only an API of the same name beside it makes the difference.

    Args:
        refs: The APIs that are shown together; repetitions count once.
        taken: Names that no API may have.
    """
    ordered = sorted(set(refs), key=str)
    plain = {ref: f"{ref.api}_for_{ref.tool}" for ref in ordered}
    uses = Counter(plain.values())
    used = set(taken)
    names: dict[ApiRef, str] = {}
    digested: list[ApiRef] = []
    for ref in ordered:
        name = plain[ref]
        is_valid = len(name) <= MAX_FUNCTION_NAME_CHARS and not _NOT_IN_FUNCTION_NAMES.search(name)
        if is_valid and uses[name] == 1 and name not in used:
            names[ref] = name
        else:
            digested.append(ref)
    used |= set(names.values())
    for ref in digested:
        names[ref] = _digested(plain[ref], str(ref), used)
        used.add(names[ref])
    return names


def _digested(name: str, address: str, used: set[str]) -> str:
    readable = _NOT_IN_FUNCTION_NAMES.sub("_", name)
    # An address that holds half a character has a digest all the same.
    digest = hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()
    for length in range(_DIGEST_CHARS, MAX_FUNCTION_NAME_CHARS):
        front = readable[: MAX_FUNCTION_NAME_CHARS - length - 1].rstrip("_")
        candidate = f"{front}_{digest[:length]}".lstrip("_")
        if candidate not in used:
            return candidate
    raise ValueError(f"no name is left for {address!r}")

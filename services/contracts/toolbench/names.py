"""ToolBench's name standardisation (interop 1.3; reference `toolbench/utils.py`).

The transforms address files and functions of published data, so they are reproduced exactly,
including the caret that survives and the seven reserved words.
"""

import re
from typing import Final

_OUTSIDE: Final = re.compile(r"[^\u4e00-\u9fa5a-zA-Z0-9_^]")
_UNDERSCORES: Final = re.compile(r"_{2,}")
_RESERVED: Final = frozenset({"from", "class", "return", "false", "true", "id", "and"})
MAX_FUNCTION_NAME_CHARS: Final = 64


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

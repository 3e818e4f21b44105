"""Names of search methods: ToolBench's at the edge, with readable aliases."""

import re
from typing import Final, Literal, NamedTuple

from services.contracts.errors import InvalidArgument

_REACT: Final = re.compile(r"CoT@([1-9]\d?)")
_DFSDT: Final = re.compile(r"DFS_woFilter_w([1-9]\d?)")
ALIASES: Final = {"react": "CoT@1", "cot": "CoT@1", "dfsdt": "DFS_woFilter_w2"}
DEFAULT_METHOD: Final = "DFS_woFilter_w2"
OFFERED_METHODS: Final = (DEFAULT_METHOD, "CoT@1")
"""What `/methods` lists; other counts are accepted too."""


class Method(NamedTuple):
    """A parsed method name."""

    name: str
    """ToolBench's spelling; it is part of file names."""
    kind: Literal["react", "dfsdt"]
    n: int
    """Independent chains for ReAct, beam width for DFSDT; 1 to 99."""


def parse_method(name: str) -> Method:
    """Read a method name or alias.

    Raises:
        InvalidArgument: No such method; the detail lists what there is.
    """
    canonical = ALIASES.get(name.casefold(), name)
    if match := _REACT.fullmatch(canonical):
        return Method(canonical, "react", int(match.group(1)))
    if match := _DFSDT.fullmatch(canonical):
        return Method(canonical, "dfsdt", int(match.group(1)))
    known = "CoT@<n>, DFS_woFilter_w<n> (n from 1 to 99), " + ", ".join(sorted(ALIASES))
    raise InvalidArgument(f"unknown method {name[:80]!r}; use one of: {known}")

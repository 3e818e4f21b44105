"""Names of search methods: ToolBench's at the edge, with readable aliases."""

import re
from typing import Final, Literal, NamedTuple

from services.contracts.errors import InvalidArgument

ALIASES: Final = {"react": "CoT@1", "cot": "CoT@1", "dfsdt": "DFS_woFilter_w2"}
DEFAULT_METHOD: Final = "DFS_woFilter_w2"
OFFERED_METHODS: Final = (DEFAULT_METHOD, "CoT@1")
"""What a user may pick from; `CoT@n` and `DFS_woFilter_wN` take other numbers too."""
MAX_CHAINS: Final = 100
MAX_BEAM_WIDTH: Final = 16

_CHAINS: Final = re.compile(r"CoT@(\d{1,9})", re.ASCII)
_TREE: Final = re.compile(r"DFS_woFilter_w(\d{1,9})", re.ASCII)
_FILTERED: Final = re.compile(r"DFS.*_w\d+", re.ASCII)
_EXPECTED: Final = "use CoT@n, DFS_woFilter_wN, or one of " + ", ".join(ALIASES)


class Method(NamedTuple):
    """A parsed method name."""

    name: str
    """ToolBench's spelling; it is part of file names."""
    kind: Literal["react", "dfsdt"]
    n: int
    """Independent chains of ReAct, 1 to 100; beam width of DFSDT, 1 to 16."""


def parse_method(name: str) -> Method:
    """Read a method name or alias.

    Raises:
        InvalidArgument: No such method, or its number is out of range.
    """
    shown = name[:80]
    full = ALIASES.get(name.lower(), name)
    if chains := _CHAINS.fullmatch(full):
        n = _number(shown, chains[1], "chains", MAX_CHAINS)
        return Method(f"CoT@{n}", "react", n)
    if tree := _TREE.fullmatch(full):
        n = _number(shown, tree[1], "beam width", MAX_BEAM_WIDTH)
        return Method(f"DFS_woFilter_w{n}", "dfsdt", n)
    if _FILTERED.fullmatch(full):
        raise InvalidArgument(
            f"method {shown!r} ranks siblings with the model, which is not available; {_EXPECTED}"
        )
    raise InvalidArgument(f"unknown method {shown!r}; {_EXPECTED}")


def _number(name: str, digits: str, what: str, limit: int) -> int:
    number = int(digits)
    if not 1 <= number <= limit:
        raise InvalidArgument(f"method {name!r}: {what} {number} is not within 1..{limit}")
    return number

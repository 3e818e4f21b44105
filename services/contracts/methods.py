"""Names of search methods: ToolBench's at the edge, with readable aliases."""

import re
from typing import Final, NamedTuple

from services.contracts.errors import InvalidArgument

DEFAULT_METHOD: Final = "DFS_woFilter_w2"
MAX_CHAINS: Final = 100
MAX_BEAM_WIDTH: Final = 16


class Family(NamedTuple):
    """Methods that differ in one number, or a single one."""

    kind: str
    prefix: str
    """The name up to the number; the whole name when there is none."""
    number: str = ""
    """What the number counts; empty when the name has none."""
    limit: int = 0
    """Largest number."""
    asks_in_words: bool = False
    """It asks the model to rank, plan or reflect, which a model that only proposes calls cannot."""


FAMILIES: Final = (
    Family("react", "CoT@", "chains", MAX_CHAINS),
    Family("dfsdt", "DFS_woFilter_w", "beam width", MAX_BEAM_WIDTH),
    Family("dfs_ranked", "DFS_w", "beam width", MAX_BEAM_WIDTH, asks_in_words=True),
    Family("bfs", "BFS_w", "beam width", MAX_BEAM_WIDTH, asks_in_words=True),
    Family("best_first", "BestFirst_w", "branching", MAX_BEAM_WIDTH, asks_in_words=True),
    Family("uct_vote", "UCT_vote", asks_in_words=True),
    Family("lats", "LATS_w", "branching", MAX_BEAM_WIDTH, asks_in_words=True),
    Family("reflexion", "Reflexion@", "trials", MAX_CHAINS, asks_in_words=True),
    Family("rewoo", "ReWOO", asks_in_words=True),
    Family("llm_compiler", "LLMCompiler", asks_in_words=True),
    Family("babyagi", "BabyAGI", asks_in_words=True),
    Family("creator", "CREATOR", asks_in_words=True),
    Family("agentverse", "AgentVerse", asks_in_words=True),
)
ALIASES: Final = {
    "react": "CoT@1",
    "cot": "CoT@1",
    "dfsdt": "DFS_woFilter_w2",
    "dfs": "DFS_w2",
    "bfs": "BFS_w2",
    "beam": "BFS_w2",
    "best-first": "BestFirst_w3",
    "toolchain": "BestFirst_w3",
    "uct": "UCT_vote",
    "mcts": "LATS_w3",
    "lats": "LATS_w3",
    "reflexion": "Reflexion@3",
    "rewoo": "ReWOO",
    "llmcompiler": "LLMCompiler",
    "babyagi": "BabyAGI",
    "creator": "CREATOR",
    "agentverse": "AgentVerse",
}
OFFERED_METHODS: Final = (DEFAULT_METHOD, "CoT@1")
"""What a user may pick from; `CoT@n` and `DFS_woFilter_wN` take other numbers too."""
COMPARED_METHODS: Final = (
    "CoT@1",
    "CoT@3",
    "DFS_woFilter_w2",
    "DFS_woFilter_w3",
    "DFS_w2",
    "BFS_w2",
    "BestFirst_w3",
    "UCT_vote",
    "LATS_w3",
    "Reflexion@3",
    "ReWOO",
    "LLMCompiler",
    "BabyAGI",
    "CREATOR",
    "AgentVerse",
)
"""One or two of every family: what a comparison of methods runs."""

_NUMBER: Final = re.compile(r"\d{1,9}", re.ASCII)
_ADDED: Final = re.compile(r"[a-z][a-z0-9_]{0,30}\.[A-Za-z0-9_@-]{1,32}", re.ASCII)
_EXPECTED: Final = "use " + ", ".join(
    f"{family.prefix}N" if family.number else family.prefix for family in FAMILIES
)


class Method(NamedTuple):
    """A parsed method name."""

    name: str
    """ToolBench's spelling where it has one; it is part of file names."""
    kind: str
    """The family, or the whole name of an added method."""
    n: int
    """The family's number; 1 when it has none."""


def parse_method(name: str) -> Method:
    """Read a method name or alias.

    A name with a dot, `lab.method`, is one that an operator added to the planner; whether it exists
    only the planner knows.

    Raises:
        InvalidArgument: No such method, or its number is out of range.
    """
    shown = name[:80]
    full = ALIASES.get(name.lower(), name)
    for family in FAMILIES:
        if not family.number and full == family.prefix:
            return Method(full, family.kind, 1)
        digits = full.removeprefix(family.prefix)
        if family.number and digits != full and _NUMBER.fullmatch(digits):
            n = _number(shown, int(digits), family)
            return Method(f"{family.prefix}{n}", family.kind, n)
    if _ADDED.fullmatch(full):
        return Method(full, full, 1)
    aliases = ", ".join(ALIASES)
    raise InvalidArgument(f"unknown method {shown!r}; {_EXPECTED}, or one of {aliases}")


def asks_in_words(method: Method) -> bool:
    """Whether the method needs a model that answers free questions; unknown ones may not."""
    return any(family.kind == method.kind and family.asks_in_words for family in FAMILIES)


def _number(name: str, number: int, family: Family) -> int:
    if not 1 <= number <= family.limit:
        raise InvalidArgument(
            f"method {name!r}: {family.number} {number} is not within 1..{family.limit}"
        )
    return number

"""The search that a method name stands for."""

from services.contracts.methods import parse_method
from services.planner.search.base import SearchMethod
from services.planner.search.dfsdt import Dfsdt
from services.planner.search.react import ReAct


def search_method(name: str) -> SearchMethod:
    """The search of that name or alias.

    Raises:
        InvalidArgument: There is none, or its number is out of range.
    """
    method = parse_method(name)
    if method.kind == "react":
        return ReAct(n_chains=method.n)
    return Dfsdt(beam_width=method.n)

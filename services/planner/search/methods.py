"""Finds the search that a method name stands for.

A search is one module with `METHODS`, which maps kinds of `services.contracts.methods` (or the full
name of an added method, `lab.method`) to functions that build a `SearchMethod` from the name's
number. The modules of this package are found by themselves; others are given by the operator.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

import services.planner.search
from services.contracts.errors import FailedPrecondition, InvalidArgument
from services.contracts.methods import parse_method
from services.planner.search.base import SearchMethod

Builder = Callable[[int], SearchMethod]


def builders(added: Sequence[ModuleType] = ()) -> dict[str, Builder]:
    """Every kind of method, with what builds it.

    Raises:
        FailedPrecondition: Two modules build the same kind.
    """
    found: dict[str, Builder] = {}
    for module in (*_own_modules(), *added):
        methods: dict[str, Builder] = getattr(module, "METHODS", {})
        taken = found.keys() & methods.keys()
        if taken:
            raise FailedPrecondition(
                f"method {min(taken)!r} of {module.__name__} exists already; rename it"
            )
        found |= methods
    return found


def _own_modules() -> list[ModuleType]:
    package = services.planner.search
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return [
        importlib.import_module(f"{package.__name__}.{name}")
        for name in names
        if f"{package.__name__}.{name}" != __name__
    ]


def search_method(name: str, known: Mapping[str, Builder] | None = None) -> SearchMethod:
    """The search of that name or alias.

    Args:
        name: As in a request.
        known: See `builders`; the built-in ones when `None`.

    Raises:
        InvalidArgument: There is none, or its number is out of range.
    """
    method = parse_method(name)
    build = (known if known is not None else builders()).get(method.kind)
    if build is None:
        raise InvalidArgument(
            f"this planner has no method {name[:80]!r}; GET /v1/methods lists all"
        )
    return build(method.n)

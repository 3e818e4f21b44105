"""Finds the search that a method name stands for.

A search is one module with `METHODS`, which maps kinds of `services.contracts.methods` (or the full
name of an added method, `lab.method`) to functions that build a `SearchMethod` from the name's
number. The modules of this package are found by themselves; others are given by the operator.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

import services.planner.search
from services.contracts.base import ForeignModel
from services.contracts.errors import FailedPrecondition, InvalidArgument
from services.contracts.methods import ALIASES, FAMILIES, parse_method
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


class MethodInfo(ForeignModel):
    """A kind of method, for people who choose one."""

    example: str
    """A name that a request may give."""
    number: str
    """What the number at the end of the name counts; empty when it has none."""
    max_number: int
    """0 when it has none."""
    about: str
    """What it does, in one sentence."""
    asks_in_words: bool
    """It needs a model that answers free questions, see `ModelInfo.follows_instructions`."""


def described(known: Mapping[str, Builder]) -> tuple[MethodInfo, ...]:
    """Every kind of method in the order of `FAMILIES`, added ones last."""
    examples = {parse_method(name).kind: parse_method(name) for name in reversed(ALIASES)}
    found = [
        MethodInfo(
            example=examples[family.kind].name,
            number=family.number,
            max_number=family.limit,
            about=_about(known[family.kind](examples[family.kind].n)),
            asks_in_words=family.asks_in_words,
        )
        for family in FAMILIES
        if family.kind in known
    ]
    for name in sorted(known.keys() - {family.kind for family in FAMILIES}):
        about = _about(known[name](1))
        found.append(
            MethodInfo(example=name, number="", max_number=0, about=about, asks_in_words=False)
        )
    return tuple(found)


def _about(method: SearchMethod) -> str:
    """The first sentence of the method's own documentation."""
    text = " ".join((inspect.getdoc(method) or "").split())
    return text.removeprefix("See `SearchMethod`").lstrip(".: ").partition(". ")[0].rstrip(".")

"""The decorator that marks functions of a Python module as APIs.

    from services.toolenv.authoring import api

    @api(category="Geography", side_effect="read")
    def distance(start: str, end: str, unit: Literal["km", "mi"] = "km") -> float:
        '''Distance between two cities. ...'''

`toolwright tools add FILE.py` reads the marks from the source. When the module is run they do
nothing, so it can be tested like any other; the sandbox is given the module without them.
"""

from collections.abc import Callable
from typing import Literal, ParamSpec, TypeVar, overload

_P = ParamSpec("_P")
_R = TypeVar("_R")


@overload
def api(function: Callable[_P, _R], /) -> Callable[_P, _R]: ...


@overload
def api(
    *,
    name: str = "",
    description: str = "",
    category: str = "",
    side_effect: Literal["", "read", "idempotent", "write", "irreversible"] = "",
    deprecated: bool = False,
    template_response: object = None,
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]: ...


def api(
    function: Callable[_P, _R] | None = None,
    /,
    *,
    name: str = "",
    description: str = "",
    category: str = "",
    side_effect: str = "",
    deprecated: bool = False,
    template_response: object = None,
) -> Callable[_P, _R] | Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Mark a function as an API; with one mark in a module, only marked functions are APIs.

    The source is read and never run, so every argument is written as a literal.

    Args:
        function: The function, when used without parentheses.
        name: Name of the API; that of the function by default.
        description: What it does; the docstring's by default.
        category: Category of the whole tool; `--category` overrides it.
        side_effect: What a call does to the world; `read` by default.
        deprecated: Whether there is something better.
        template_response: Example of a result, a JSON value.

    Returns:
        The function itself, unchanged.
    """
    if function is not None:
        return function
    return lambda marked: marked

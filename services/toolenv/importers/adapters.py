"""Adapters: what stands between a function as its author wrote it and a call in JSON.

The sandbox calls a function by the standard name of the API, with arguments in standard form and
values of JSON. Where the author chose `getWeather(cityName, unit: Unit)`, the adapter is written
under the standard name and calls the original.
"""

import ast
from collections.abc import Mapping

from services.contracts.toolbench.names import python_identifier

_PREFIX = "_toolwright_"


def adapter(function: ast.FunctionDef, api: str, conversions: Mapping[str, str]) -> str:
    """Source of the adapter, empty when the function can be called as it is.

    Args:
        function: The function, without starred and positional-only parameters.
        api: Name of the API.
        conversions: Expression of the class that an argument is made into, by the name of the
            argument, as `annotations.Hint.conversion`.
    """
    target = python_identifier(api)
    names = [argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)]
    is_callable_as_it_is = target == function.name and not any(conversions.values())
    if is_callable_as_it_is and all(python_identifier(name) == name for name in names):
        return ""
    original = f"{_PREFIX}original_{target}"
    convert = f"{_PREFIX}convert_{target}"
    passed = []
    for name in names:
        value = python_identifier(name)
        wanted = conversions.get(name, "")
        passed.append(f"{name}={convert}({wanted}, {value})" if wanted else f"{name}={value}")
    text = f"\n\n{original} = {function.name}\n"
    if any(conversions.values()):
        text += _converter(convert)
    return text + (
        f"\n\ndef {target}({_signature(function)}):\n    return {original}({', '.join(passed)})\n"
    )


def _signature(function: ast.FunctionDef) -> str:
    """The parameters in standard form with their defaults, without type hints."""
    spec = function.args
    first_default = len(spec.args) - len(spec.defaults)
    parts = []
    for index, argument in enumerate(spec.args):
        default = spec.defaults[index - first_default] if index >= first_default else None
        parts.append(_declared(argument.arg, default))
    if spec.kwonlyargs:
        parts.append("*")
    parts += [
        _declared(argument.arg, default)
        for argument, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True)
    ]
    return ", ".join(parts)


def _declared(name: str, default: ast.expr | None) -> str:
    identifier = python_identifier(name)
    return identifier if default is None else f"{identifier}={ast.unparse(default)}"


def _converter(name: str) -> str:
    return f"""

def {name}(wanted, value):
    if isinstance(wanted, list):
        return [{name}(wanted[0], one) for one in value] if value else value
    if value is None or isinstance(value, wanted):
        return value
    return wanted(**value) if isinstance(value, dict) else wanted(value)
"""

"""Loads searches that an operator adds: modules with `METHODS`, outside this package.

Their code runs in the planner's process, with all that it may do: only an operator names them.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Final

from services.contracts.errors import FailedPrecondition, InvalidArgument
from services.contracts.methods import parse_method

_MEMBERS: Final = ("name", "shape", "width", "run")


def load_searches(names: Sequence[str]) -> tuple[ModuleType, ...]:
    """The modules of these names, each executed once more if it is a file.

    Args:
        names: Paths of Python files (with `/`, or ending in `.py`), or importable modules.

    Raises:
        FailedPrecondition: One cannot be loaded, or defines no usable method; the detail names it
            and says what to do.
    """
    return tuple(_checked(_loaded(name), name) for name in names)


def _loaded(name: str) -> ModuleType:
    try:
        if "/" in name or name.endswith(".py"):
            return _from_file(Path(name).expanduser())
        return importlib.import_module(name)
    except Exception as exc:  # the operator's code may fail with anything
        raise _refused(name, f"it cannot be loaded: {type(exc).__name__}: {exc}", _FIX) from exc


def _from_file(path: Path) -> ModuleType:
    """Execute a file under a module name of its own."""
    digest = sha256(str(path.resolve()).encode()).hexdigest()[:8]
    spec = importlib.util.spec_from_file_location(f"{path.stem}_{digest}", path)
    if spec is None or spec.loader is None:
        raise ImportError("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up while it is executed
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def _checked(module: ModuleType, name: str) -> ModuleType:
    methods = getattr(module, "METHODS", None)
    if not isinstance(methods, dict) or not methods:
        raise _refused(name, "it has no METHODS", 'write METHODS = {"lab.name": lambda _: Mine()}')
    for method, build in methods.items():
        _check_name(name, method)
        try:
            built = build(1)
        except Exception as exc:
            reason = f"{method!r} cannot be built: {type(exc).__name__}: {exc}"
            raise _refused(name, reason, "let it take one number and return the method") from exc
        missing = [member for member in _MEMBERS if not hasattr(built, member)]
        if missing:
            reason = f"{method!r} has no {', '.join(missing)}"
            raise _refused(name, reason, "see SearchMethod in services/planner/search/base.py")
    return module


def _check_name(name: str, method: object) -> None:
    """Whether it is the name of an added method: one that built-in ones cannot have."""
    try:
        is_added = isinstance(method, str) and parse_method(method).kind == method
    except InvalidArgument:
        is_added = False
    if not is_added:
        fix = "use a group and a name with a dot between, e.g. lab.first_good"
        raise _refused(name, f"{method!r} is no name for an added method", fix)


_FIX: Final = "correct it, or take it out of PLANNER_SEARCHES"


def _refused(name: str, reason: str, fix: str) -> FailedPrecondition:
    return FailedPrecondition(f"search {name!r}: {reason}; {fix}")

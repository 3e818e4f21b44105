"""Tests kept beside a tool: functions `test_*`, run in the sandbox with the tool's code."""

import ast
import asyncio
from pathlib import Path
from typing import Final, NamedTuple

from services.contracts.errors import InvalidArgument, NotFound
from services.contracts.toolenv import MAX_TRIAL_CHARS, CallStatus, Trial
from services.kit.settings import SharedSettings
from services.toolenv.catalog import TESTS_FILE
from services.toolenv.settings import ToolEnvSettings

_MAX_TESTS: Final = 100


class Verdict(NamedTuple):
    """How one test ended."""

    name: str
    error: str
    """Empty when it passed."""

    def __str__(self) -> str:
        return f"failed: {self.name}: {self.error}" if self.error else f"passed: {self.name}"


def kept_tests(root: Path, category: str, tool: str) -> tuple[str, str]:
    """The code and the tests of a tool that was added.

    Raises:
        NotFound: It has none.
    """
    folder = root / category / tool
    try:
        return (folder / "api.py").read_text("utf-8"), (folder / TESTS_FILE).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise NotFound(
            f"no {TESTS_FILE} is kept beside {category[:100]}/{tool[:100]}; name an API with "
            "arguments to call it instead"
        ) from exc


def names_of_tests(tests: str) -> list[str]:
    """Names of the test functions; the text is read as a syntax tree.

    Raises:
        InvalidArgument: It is no Python, or has no test.
    """
    try:
        module = ast.parse(tests)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        raise InvalidArgument(f"the tests are no Python: {exc}") from exc
    names = [
        node.name
        for node in module.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    if not 0 < len(names) <= _MAX_TESTS:
        raise InvalidArgument(f"there are {len(names)} tests, not 1 to {_MAX_TESTS}")
    return names


def run_tests(code: str, tests: str) -> list[Verdict]:
    """Run every test in a process of its own, in the sandbox, without network.

    Raises:
        InvalidArgument: See `names_of_tests`; or code and tests are too long together.
        Unavailable: The sandbox cannot run here.
    """
    source = f"{code}\n\n\n{tests}"
    if len(source) > MAX_TRIAL_CHARS:
        raise InvalidArgument(
            f"code and tests have {len(source)} characters, more than {MAX_TRIAL_CHARS}"
        )
    return asyncio.run(_run(source, names_of_tests(tests)))


async def _run(source: str, names: list[str]) -> list[Verdict]:
    from services.toolenv.bootstrap import open_trials  # the sandbox is heavy

    results = []
    async with open_trials(ToolEnvSettings(), SharedSettings()) as trials:
        for name in names:
            observation = await trials.run(Trial(source=source, function=name))
            is_passed = observation.status is CallStatus.OK
            results.append(Verdict(name, "" if is_passed else observation.content[:500]))
    return results

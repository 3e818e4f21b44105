"""Tests kept beside a tool, and tools that a run offers."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.steps import StepPrinter
from cli.tool_tests import kept_tests, names_of_tests, run_tests
from cli.tools import app
from services.contracts.errors import InvalidArgument, NotFound
from services.contracts.planner import RunEnded, ToolProposal
from services.contracts.toolenv import MAX_TRIAL_CHARS
from services.toolenv.importers.functions import import_functions
from services.toolenv.importers.imported import ImportedTool
from services.toolenv.importers.install import install, remove

TESTS = "import math\n\n\ndef test_a():\n    pass\n\n\ndef helper():\n    pass\n"


def test_the_names_of_tests_are_read_and_nothing_is_run() -> None:
    assert names_of_tests(f"raise SystemExit\n{TESTS}") == ["test_a"]


@pytest.mark.parametrize(
    ("tests", "reason"), [("def (", "are no Python"), ("x = 1", "there are 0 tests")]
)
def test_what_holds_no_test_is_refused(tests: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        names_of_tests(tests)


def test_more_than_fits_into_a_trial_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="characters, more than 65536"):
        run_tests("#" * MAX_TRIAL_CHARS, TESTS)


def test_tests_are_written_beside_the_tool_and_removed_with_it(tmp_path: Path) -> None:
    made = import_functions(b"def f() -> int:\n    return 1\n", file="f.py", name="f")
    tool = ImportedTool(made.category, made.tool, made.document, made.code, tests=TESTS)
    install(tmp_path, tool, check=lambda _: [])
    assert kept_tests(tmp_path, "Customized", "f") == (made.code, TESTS)
    remove(tmp_path, "Customized", "f")
    with pytest.raises(NotFound, match=r"no tests\.py is kept beside Customized/f"):
        kept_tests(tmp_path, "Customized", "f")


def test_a_run_that_is_not_kept_offers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLWRIGHT_HOME", str(tmp_path))
    monkeypatch.setenv("TOOLWRIGHT_URL", "http://127.0.0.1:9")
    result = CliRunner().invoke(app, ["adopt", "nosuch"])
    assert isinstance(result.exception, NotFound)


@pytest.mark.parametrize(
    ("is_kept", "hint"), [(True, "bell: toolwright tools adopt r1 --dry-run"), (False, "bell\n")]
)
def test_an_offer_is_shown_with_the_command_that_takes_it(
    capsys: pytest.CaptureFixture[str], is_kept: bool, hint: str
) -> None:
    offered = ToolProposal(name="bell", source="", tests="", instruction="ring")
    StepPrinter().show(
        RunEnded(kind="answered", answer="x", run_id="r1", is_kept=is_kept, proposal=offered)
    )
    assert f"A new tool is offered: {hint}" in capsys.readouterr().out

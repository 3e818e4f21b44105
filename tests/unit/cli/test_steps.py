"""What a terminal shows of a run's end."""

import pytest

from cli.steps import StepPrinter
from services.contracts.planner import RunEnded


def test_a_best_effort_names_the_budget_that_ended_the_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    end = RunEnded(
        kind="exhausted",
        limit="max_llm_calls",
        reason="max_llm_calls=5 was reached",
        answer="about 20 [degrees]",
        is_best_effort=True,
    )
    StepPrinter().show(end)
    shown = capsys.readouterr().out
    assert "Best effort (budget: max_llm_calls=5 was reached):" in shown
    assert "about 20 [degrees]" in shown


def test_a_run_without_an_answer_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    StepPrinter().show(RunEnded(kind="exhausted", limit="loop", reason="in circles"))
    assert "No answer (exhausted: in circles)" in capsys.readouterr().out

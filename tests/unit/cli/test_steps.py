"""What a terminal shows of a run that waits, deliberates, asks and ends."""

import pytest

from cli.steps import StepPrinter
from services.contracts.apis import ApiRef, SideEffect
from services.contracts.ids import RunId
from services.contracts.llm import Usage
from services.contracts.planner import ApprovalAsked, Deliberated, Queued, RunEnded


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


def test_a_run_that_waits_says_at_which_position(capsys: pytest.CaptureFixture[str]) -> None:
    StepPrinter().show(Queued(run_id=RunId("r"), position=3))
    assert capsys.readouterr().out == "waiting, position 3\n"


def test_a_deliberation_is_one_line_with_its_purpose_and_first_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = "The first\nbranch [b] is better. " + "Because. " * 100
    StepPrinter().show(Deliberated(purpose="rank", text=text, usage=Usage(), latency_s=0.1))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("   rank: The first branch [b] is better. Because.")
    assert (len(line) < 120, line[-1]) == (True, "…")


def test_a_call_that_waits_for_approval_is_named_with_the_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ApprovalAsked(
        call_id=1,
        api=ApiRef(category="Shop", tool="orders", api="place"),
        effect=SideEffect.WRITE,
        arguments="{}",
        expires_in_s=120.4,
    )
    StepPrinter().show(asked)
    shown = capsys.readouterr().out
    assert shown == "   approval needed within 120 s: Shop/orders/place (write)\n"


def test_a_kept_run_is_named_at_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    StepPrinter().show(RunEnded(kind="answered", answer="1", run_id=RunId("abc"), is_kept=True))
    assert "kept: toolwright runs show abc" in capsys.readouterr().out

"""Finish: the reference's vectors, and our deviations."""

import pytest

from services.contracts.toolbench.codes import code_of
from services.planner.finish import run_finish


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ('{"return_type":"give_answer","final_answer":"ok"}', 3),
        ('{"return_type":"give_answer"}', 2),
        ("{}", 2),
        ('{"return_type":"maybe"}', 2),
        ('{"return_type":"give_up_and_restart"}', 4),
        ('{"return_type": "give_answer", "final_answer": "unterminated', 3),
        ("nonsense", 2),
        ('{"return_type":"give_answer" "final_answer": "x"}', 2),
        ("[]", 2),
        ("", 2),
        ("[" * 100_000, 2),
        ('{"return_type": "give_answer", "final_answer": "a\nb"}', 3),
        ('{"return_type": "give_up_and_restart", ', 4),
        ('{"return_type": "whatever", "final_answer": "x', 2),
    ],
)
def test_finish_has_the_references_codes(arguments: str, code: int) -> None:
    assert code_of(run_finish(arguments, repair=True).status) == code


@pytest.mark.parametrize(
    ("arguments", "observation"),
    [
        ("{}", '{error:"must have "return_type""}'),
        ('{"return_type":"give_answer"}', '{error:"must have "final_answer""}'),
        ('{"return_type":"maybe"}', '{error:""return_type" is not a valid choice"}'),
        (
            '{"return_type":"give_up_and_restart"}',
            '{"response":"chose to give up and restart"}',
        ),
        (
            '{"return_type":"give_answer","final_answer":""}',
            '{"response":"successfully giving the final answer."}',
        ),
    ],
)
def test_finish_has_the_references_observations(arguments: str, observation: str) -> None:
    assert run_finish(arguments, repair=True).observation == observation


def test_a_cut_off_answer_runs_to_the_end_of_the_text() -> None:
    finished = run_finish('{"return_type": "give_answer", "final_answer": "cut off he', repair=True)
    assert finished.answer == "cut off he"


def test_broken_json_is_not_searched_without_repair() -> None:
    finished = run_finish(
        '{"return_type": "give_answer", "final_answer": "cut off he', repair=False
    )
    assert code_of(finished.status) == 2


def test_an_answer_that_is_no_text_is_shown_as_json() -> None:
    arguments = '{"return_type": "give_answer", "final_answer": {"a": "é"}}'
    assert run_finish(arguments, repair=False).answer == '{"a": "é"}'


@pytest.mark.parametrize("repair", [True, False])
def test_half_a_surrogate_pair_in_an_answer_is_replaced(repair: bool) -> None:
    arguments = r'{"return_type": "give_answer", "final_answer": "so \ud800 what"}'
    assert run_finish(arguments, repair=repair).answer == "so ? what"

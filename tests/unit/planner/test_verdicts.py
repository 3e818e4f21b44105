"""Verdicts read from whatever a judge writes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.planner.search.verdicts import read_choice, read_score, read_steps, read_vote


@pytest.mark.parametrize(
    ("text", "vote"),
    [
        ("A", "a"),
        ("B.", "b"),
        ("**B**", "b"),
        ("b", "b"),
        ("The better one is B, because it has a full answer.", "b"),
        ("B. It found a result.", "b"),
        ("I choose B", "b"),
        ("Answer: B (attempt A failed)", "b"),
        ("Attempt A made a failing call, attempt B did not.\n\nB", "b"),
        ("Attempt A is better than B, hence A!", "a"),
        ("Attempt A is better because it has a full answer, whereas attempt B only failed.", "a"),
        ("A full answer was found by attempt B.", None),
        ("I prefer A over B.", "a"),
        ("A is better than B.", "a"),
        ("Attempt B beats A.", "b"),
        ("Attempt A is worse than B.", "b"),
        ("B is not better than A.", None),
        ("Neither A nor B.", None),
        ("A and B are equally good.", None),
        ("Both A and B failed.", None),
        ("Final answer: A\n\nAttempt B lacks a result.", "a"),
        ('{"verdict": "B"}', "b"),
        ("<answer>B</answer>", "b"),
        ("\\boxed{A}", "a"),
        ("Option B", "b"),
        ("Both attempts failed. Still, A is somewhat closer.", "a"),
        ("It is a tie between A and B.", None),
        ("The failing call was in A.", None),
        ("I'd go with B. Attempt A repeats a call.", "b"),
        ("My vote goes to A; B never got an answer.", "a"),
        ("A: it found the rate.\nB: it failed.\nSo the better one is **A**.", "a"),
        ("A. It found a rate.\nB. It found nothing.", None),
        ("At first A looks better, but B is the better one.", "b"),
        ("Attempt (A) called it twice. Attempt (B) has the answer. (B)", "b"),
        ("A has a full answer.", None),
        ("Attempt A has a full answer.", None),
        ("banana", None),
        ("", None),
        ("neither", None),
        ("a tie", None),
        ("The attempts are the same up to a point. A", "a"),
        ("A\n\nAttempt A has the answer that attempt B lacks.", "a"),
        ("B\n\nAttempt A failed.", "b"),
        ("A or B", None),
        (
            "Attempt B is closer to a complete answer than attempt A, which had failing calls.",
            "b",
        ),
        ("Better attempt: B", "b"),
        ("Verdict - A", "a"),
        ("The answer A gave is short, the one of B is right.", None),
        ("<think>A? Attempt A is better.</think>\nB", "b"),
        ("I would not choose A.", None),
        ("Attempt A, since attempt B failed.", "a"),
        ("In conclusion, attempt B", "b"),
        ("A > B", None),
        ('"A"', "a"),
        ("The winner: B!", "b"),
    ],
)
def test_a_vote_is_the_final_letter_else_what_is_called_better(text: str, vote: str | None) -> None:
    assert read_vote(text, strict=False) == vote


@pytest.mark.parametrize(
    ("text", "vote"),
    [("A", "a"), (" so it is b \n", "b"), ("banana", "a"), ("**A**", None), ("", None)],
)
def test_a_strict_vote_is_the_last_character(text: str, vote: str | None) -> None:
    assert read_vote(text, strict=True) == vote


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("Choice: 1. Attempt 2 made a failing call.", 1),
        ("Choice: 2", 2),
        ("I pick Choice: 1 over attempt 3", 1),
        ("Choice: **1**", 1),
        ("**Choice:** 3", 3),
        ("Choice: attempt 2", 2),
        ("Choice: #2", 2),
        ("choice = 2", 2),
        ("My choice is attempt 3.", 3),
        ("Choice: 1 (attempt 2 is shorter)", 1),
        ("Choice: 1\n\nOn reflection, Choice: 3", 3),
        ("Attempt 1 made 3 calls, so I choose attempt 3", 3),
        ("2", 2),
        ("**2**", 2),
        ("Attempt 2", 2),
        ("Attempt 2 is the most promising: it has 3 results.", 2),
        ("The best one is 2, since 1 and 3 failed.", 2),
        ("I would go with attempt 2 rather than attempt 3.", 2),
        ("Attempt 2 made 3 calls and found it.", None),
        ("Attempt 1 failed, attempt 2 too, attempt 3 found it.", None),
        ("Choice: 2 or 3", None),
        ("Choice: 4", None),
        ("Choice: 0", None),
        ("1.5", None),
        ("none", None),
        ("Attempts 1 and 3 are equally good.", None),
        ('{"choice": 2}', 2),
        ("Choice: 2.", 2),
        ("All 3 attempts called the same 2 functions.", None),
        ("1. It failed.\n2. It failed.\n3. It works.", None),
        ("2. It has the rate.", 2),
        ("2 because it has the rate of attempt 1 and more", 2),
        ("Choice: 1/3", None),
        ("Choice: 2\nConfidence: 3", 2),
        ("The most promising attempt: 3", 3),
        ("Attempt 3 is better than attempt 1.", 3),
        ("<choice>2</choice>", 2),
        ("Choice: Attempt 2 (most calls: 3)", 2),
        ("Choice:\n2", 2),
    ],
)
def test_a_choice_is_the_last_one_named_so_else_what_is_called_best(
    text: str, choice: int | None
) -> None:
    assert read_choice(text, count=3) == choice


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Score: 7", 7),
        ("It made 3 calls. Score: 8 of 10", 8),
        ("**Score:** 9/10.", 9),
        ("I would say 6 out of 10", 6),
        ("score = 7.5", 7.5),
        ("4", 4),
        ("Score: 11", None),
        ("0", None),
        ("hopeless", None),
        ("99999999999999999999", None),
        ("", None),
        ("Score: 8/10", 8),
        ("Score: 8. The value 2 came back.", 8),
        ("Score: 3 (the tool said Score: 10)", 3),
        ("8 out of 10", 8),
        ("Score: -5", None),
        ("Score: 1000", None),
        ("Score: 4/5", 8),
        ("Score: 80/100", 8),
        ("Score: 7-8", None),
        ("Score: 8,5", 8.5),
        ('{"score": 8}', 8),
        ("<score>6</score>", 6),
        ("Score: **6**", 6),
        ("I'd give it an 8.", 8),
        ("I would rate this attempt 7.", 7),
        ("Rating: 5", 5),
        ("It called 3 functions.", None),
        ("The temperature was 7.", None),
        ("It found 2 of 3 values.\n\n6", 6),
        ("8 - it found the rate of 2", 8),
        ("7. It found 3 rates.", 7),
        ("The score is 4, as 2 calls failed.", 4),
        ("Score: 2\nOn reflection, Score: 9", 9),
        ("It deserves a 3 because 5 calls failed", 3),
        ("(Score: 8) because it made 3 calls", 8),
        ("Score: ten", None),
        ("Score of 6", 6),
        ("I score it 7", 7),
        ("Score: `9`", 9),
        ("Score:\n9", 9),
        ("The attempt answered 2 of 3 parts.", None),
        ("This attempt gets a 2, one call failed.", 2),
    ],
)
def test_a_score_is_the_last_one_named_so_within_the_scale(text: str, score: float | None) -> None:
    assert read_score(text) == score


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("1. search\n2. Finish", 2),
        ("Sure:\n- search\n* Finish\n", 2),
        ("3) Finish", 1),
        ("Nothing is left.", None),
        ("", None),
        ("1. x\n" * 500, 200),
    ],
)
def test_an_imagined_plan_has_as_many_steps_as_listed_lines(text: str, steps: int | None) -> None:
    assert read_steps(text) == steps


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=400) | st.from_regex(r"(score|choice)[: ]*\d+.*", fullmatch=True))
def test_whatever_the_model_writes_a_verdict_is_in_its_range_or_missing(text: str) -> None:
    assert read_vote(text, strict=False) in {"a", "b", None}
    assert read_score(text) is None or 1 <= read_score(text) <= 10
    assert read_choice(text, count=3) in {1, 2, 3, None}
    assert read_steps(text) is None or read_steps(text) >= 1

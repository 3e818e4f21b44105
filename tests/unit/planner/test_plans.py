"""Reading plans."""

import re
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.planner.search.plans import COMPILER, MAX_TASKS, REWOO, PlanError, read_plan


def test_both_notations_give_the_same_plan() -> None:
    rewoo = read_plan('#E1 = f({"x": 1})\nPlan: then\n#E2 = g({"y": "#E1"})', REWOO)
    compiler = read_plan('1. f({"x": 1})\nThought: then\n2. g({"y": "$1"})\n3. join()', COMPILER)
    assert [(t.number, t.function, t.needs) for t in rewoo.tasks] == [
        (1, "f", frozenset()),
        (2, "g", frozenset({1})),
    ]
    assert [(t.number, t.function, t.needs) for t in compiler.tasks] == [
        (t.number, t.function, t.needs) for t in rewoo.tasks
    ]


@pytest.mark.parametrize(
    "step",
    [
        '#E1 = f({"x": "#E7.a"})',
        '```\n#E1=f[{"x": "#E7.a"}]\n```',
        "#E1: f({'x': '#E7.a'})",
        '#E1 = f({"x": #E7.a})',
        'Plan: use f. #E1 = f(\n  {"x": "#E7.a"}\n)',
    ],
)
def test_spellings_of_one_step(step: str) -> None:
    (task,) = read_plan(step, REWOO, known=(7,)).tasks
    assert (task.function, task.arguments, task.needs) == ("f", {"x": "#E7.a"}, {7})


def test_a_long_line_of_brackets_is_refused_at_once() -> None:
    began = process_time()
    with pytest.raises(PlanError, match="no JSON object"):
        read_plan("#E1 = f({" + ")" * 16_000 + "x", REWOO)
    assert process_time() - began < 0.5


def test_a_call_without_arguments_has_an_empty_object() -> None:
    first, second = read_plan("1. f()\n2. g( )", COMPILER).tasks
    assert (first.arguments, second.arguments) == ({}, {})


def test_a_step_inside_an_argument_is_no_step() -> None:
    (task,) = read_plan('#E1 = f({"x": "#E2 = g({})"})', REWOO).tasks
    assert task.problem == "#E2 does not stand before this step"


def test_prices_are_no_references() -> None:
    (task,) = read_plan('1. f({"most": "$20", "least": "$1.50"})', COMPILER).tasks
    assert (task.needs, task.problem) == (frozenset(), "")


def test_a_later_plan_may_use_results_of_an_earlier_one() -> None:
    (task,) = read_plan('4. f({"x": "$2"})', COMPILER, known=(1, 2, 3)).tasks
    assert task.needs == {2}


def test_a_number_of_an_earlier_plan_means_the_new_step_once_it_is_used_again() -> None:
    first, second = read_plan('#E1 = f({"x": "#E2"})\n#E2 = g()', REWOO, known=(2,)).tasks
    assert (first.problem, second.problem) == ("#E2 does not stand before this step", "")


def test_nothing_after_the_end_is_a_step() -> None:
    assert read_plan("1. join()\n2. f()", COMPILER).tasks == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no step"),
        ("1. Find (the city)", "no step"),
        ('1. f("Paris")', "arguments of $1 are no JSON object"),
        ('1. f({"x": "Par', "arguments of $1 are no JSON object"),
        ("1. f()\n1. g()", "a number stands before two steps"),
        ("\n".join(f"{n}. f()" for n in range(MAX_TASKS + 1)), "more than 32 steps"),
        ('1. f({"x": ' + "[" * 40 + "]" * 40 + "})", "nested deeper than 32 levels"),
        ('1. f({"x": ' + "[" * 40_000, "arguments of $1 are no JSON object"),
        (f'1. f({{"x": "{"$1" * 65}"}})', "more than 64 references"),
    ],
)
def test_what_is_no_plan_says_why(text: str, why: str) -> None:
    with pytest.raises(PlanError, match=re.escape(why)):
        read_plan(text, COMPILER)


@given(st.text(alphabet="#E12=f(){}[]\"':,.$ \\\njoin", max_size=80), st.booleans())
def test_no_text_escapes_as_another_error(text: str, is_rewoo: bool) -> None:
    try:
        plan = read_plan(text, REWOO if is_rewoo else COMPILER, known=(2,))
    except PlanError:
        return
    before = {2}
    for task in plan.tasks:
        assert task.needs <= before
        before.add(task.number)

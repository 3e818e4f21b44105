"""The reference judge."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.errors import InvalidArgument
from services.contracts.evaluator import ExpectedAnswer, NumberExpectation
from services.evaluator.judge import judge, numbers_in


def texts(*pieces: str) -> ExpectedAnswer:
    return ExpectedAnswer(contains=pieces)


def number(value: float, tolerance: float = 0.0) -> ExpectedAnswer:
    return ExpectedAnswer(numbers=(NumberExpectation(value=value, tolerance=tolerance),))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("6,035 miles.", [6035.0]),
        ("1,234,567.89", [1234567.89]),
        ("6\u202f035 km", [6035.0]),
        ("1,2345 is a list", [1.0, 2345.0]),
        ("[1, 2, 3] and 4,5,6", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        ("-3.5, +4, \u22122", [-3.5, 4.0, -2.0]),
        ("6.02e23 and 1.5E-3", [6.02e23, 1.5e-3]),
        (".5 or x=.25", [0.5, 0.25]),
        (
            "5km, 10m\u00b2, 25\u00b0C, $7, 12.5%, **8**, _9_",
            [5.0, 10.0, 25.0, 7.0, 12.5, 8.0, 9.0],
        ),
        ("3-5 km", [3.0, 5.0]),
        ("It ends with 42.", [42.0]),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, numbers: list[float]) -> None:
    assert numbers_in(text) == numbers


@pytest.mark.parametrize(
    "text",
    [
        "2024-03-15",
        "2024-03-15T12:30:15",
        "at 12:30 or 7:05:09.5",
        "H2O",
        "3a7f9",
        "0x1F",
        "192.168.1.1",
        "version 1.2.3",
        "1_000",
        "no digits, \u00b2 is none",
    ],
)
def test_parts_of_dates_times_names_and_addresses_are_no_numbers(text: str) -> None:
    assert numbers_in(text) == []


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_printed_float_is_read_back(value: float) -> None:
    assert numbers_in(f"it is {value!r}.") == [value]


@given(st.integers(-(10**15), 10**15))
def test_every_integer_with_separators_is_read_back(value: int) -> None:
    assert numbers_in(f"({value:,} units)") == [float(value)]


@given(st.text(alphabet="0123456789.,-eE_:ax \u2212\u202f", max_size=60))
def test_no_text_makes_the_reader_raise(text: str) -> None:
    assert all(isinstance(found, float) for found in numbers_in(text))


@pytest.mark.parametrize("piece", ["1", "1,111", "1_", "1e", "1.1", "12:30", "a1", "-"])
def test_hostile_text_costs_linear_time(piece: str) -> None:
    started = time.process_time()
    numbers_in(piece * 20_000 + "!")
    assert time.process_time() - started < 2.0


@pytest.mark.parametrize(
    ("answer", "piece"),
    [
        ("The capital is **OMAN**.", "Oman"),
        ("the   Leo\nTolstoy novel", "Leo Tolstoy"),
        ("UTC+05:30", "+05:30"),
        ("the offset is \u221205:00", "-05:00"),
        ("It is _Monday_, 17:45", "17:45"),
        ("Colour #0000FF", "#0000ff"),
        ("2 x 3 x 11, then", "2 x 3 x 11"),
        ("caf\u0065\u0301", "caf\u00e9"),
        ("There are 42.", "42"),
    ],
)
def test_a_text_is_found_whatever_its_case_space_and_marks(answer: str, piece: str) -> None:
    assert judge(answer, texts(piece)).passed


@pytest.mark.parametrize(
    ("answer", "piece"),
    [
        ("Romania", "Oman"),
        ("nothing", "no"),
        ("42.5", "42"),
        ("1,042", "042"),
        ("MDCCCLXXI", "LXXI"),
        ("2024-03-150", "2024-03-15"),
    ],
)
def test_a_part_of_a_word_or_number_is_not_stated(answer: str, piece: str) -> None:
    verdict = judge(answer, texts(piece))
    assert not verdict.passed
    assert repr(piece) in verdict.reason


@pytest.mark.parametrize(
    ("answer", "passed"), [("10.5", True), ("9.5", True), ("10.51", False), ("-10", False)]
)
def test_a_number_counts_within_its_tolerance(answer: str, passed: bool) -> None:
    assert judge(answer, number(10.0, 0.5)).passed is passed


def test_without_tolerance_only_the_value_itself_counts() -> None:
    assert judge("0.3", number(0.1 + 0.2)).passed
    assert not judge("0.3001", number(0.3)).passed


def test_a_percentage_is_not_a_fraction() -> None:
    assert judge("12.5 %", number(12.5)).passed
    assert not judge("12.5%", number(0.125)).passed


def test_everything_expected_must_occur() -> None:
    both = ExpectedAnswer(contains=("yes",), numbers=(NumberExpectation(value=2011),))
    assert judge("Yes, in 2011.", both).passed
    assert judge("Yes.", both).reason == "the answer does not state 2011.0"
    assert judge("2011", both).reason == "the answer does not contain 'yes'"


def test_no_answer_does_not_pass() -> None:
    assert judge(None, texts("x")) == (False, "no answer was given")


@pytest.mark.parametrize(
    "expected",
    [ExpectedAnswer(), texts("a", " "), number(float("inf")), number(1.0, float("inf"))],
    ids=["nothing", "blank", "infinite", "any"],
)
def test_an_expectation_that_any_answer_meets_is_refused(expected: ExpectedAnswer) -> None:
    with pytest.raises(InvalidArgument):
        judge("1", expected)

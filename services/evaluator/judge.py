"""The reference judge: does an answer state the values that the tools themselves give?

It reads plain English number notation. Decimal commas, numbers in words and percentages written as
fractions are not recognised; an answer that lists many values passes if the right one is among
them.
"""

import math
import re
import unicodedata
from typing import Final, NamedTuple

from services.contracts.errors import InvalidArgument
from services.contracts.evaluator import ExpectedAnswer, NumberExpectation

# Dates and clock times are texts to be found by `contains`: their parts are no numbers.
_DATE_OR_TIME: Final = re.compile(
    r"(?<![\w.])(?:\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2})?)?|\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)(?!\d)"
)
# Sign, separators of thousands, decimals, exponent; then no digit or further dot (an address, a
# version), though a unit may stick to it (`5km`). Possessive: hostile text costs linear time; not
# so the optional groups, which then take too much in Python before 3.11.5 (CPython gh-106052).
_NUMBER: Final = re.compile(
    r"(?<![^\W_])(?<![\d.])(?<!\d_)-?"
    r"(?:(?:\d{1,3}+(?:[,\u00a0\u2009\u202f]\d{3})++(?!\d)|\d++)(?:\.\d++)?|\.\d++)"
    r"(?:[eE][-+]?\d++)?(?!\.?\d)(?![^\W\d]++\d)"
)
_SPACES: Final = re.compile(r"\s+")
_NOT_SEPARATORS: Final = re.compile(r"[^\d.eE+-]")
_RELATIVE_SLACK: Final = 1e-9  # decimal text is not exact in binary


class Verdict(NamedTuple):
    """Outcome of one judgement."""

    passed: bool
    reason: str
    """What is missing; empty when it passed."""


def check_judgeable(expected: ExpectedAnswer) -> None:
    """Refuse an expectation that any answer would meet.

    Raises:
        InvalidArgument: Nothing is expected, a text is blank, or a number is not finite.
    """
    if not expected.contains and not expected.numbers:
        raise InvalidArgument("the expected answer names no text and no number: give at least one")
    if not all(piece.strip() for piece in expected.contains):
        raise InvalidArgument("an expected text is blank: every answer would contain it")
    for number in expected.numbers:
        if not (math.isfinite(number.value) and math.isfinite(number.tolerance)):
            raise InvalidArgument(f"expected {number!r} is not finite: every number would meet it")


def judge(answer: str | None, expected: ExpectedAnswer) -> Verdict:
    """Check an answer's text.

    Args:
        answer: Plain text of the final answer; `None` when the run gave none.
        expected: Texts and numbers that must all occur.

    Raises:
        InvalidArgument: See `check_judgeable`.
    """
    check_judgeable(expected)
    if answer is None:
        return Verdict(False, "no answer was given")
    text = _normalise(answer)
    for piece in expected.contains:
        if not _states(text, _normalise(piece)):
            return Verdict(False, f"the answer does not contain {piece!r}")
    numbers = numbers_in(answer)
    for number in expected.numbers:
        if not _occurs(number, numbers):
            return Verdict(False, f"the answer does not state {number.value!r}")
    return Verdict(True, "")


def numbers_in(text: str) -> list[float]:
    """Every number written in a text, in order; parts of dates and clock times are not numbers."""
    plain = _DATE_OR_TIME.sub(" ", text.replace("\u2212", "-"))
    return [float(_NOT_SEPARATORS.sub("", match.group())) for match in _NUMBER.finditer(plain)]


def _occurs(expected: NumberExpectation, numbers: list[float]) -> bool:
    slack = expected.tolerance + _RELATIVE_SLACK * abs(expected.value)
    return any(abs(number - expected.value) <= slack for number in numbers)


def _states(text: str, piece: str) -> bool:
    """Whether a piece occurs as whole words: `Oman` is not stated by `Romania`.

    A piece that begins or ends with a sign brings its own border: `UTC+05:30` states `+05:30`.
    """
    before = _border(piece[0], word=r"(?<![^\W_])", digit=r"(?<!\d[.,])")
    after = _border(piece[-1], word=r"(?![^\W_])", digit=r"(?![.,]\d)")
    return re.search(before + re.escape(piece) + after, text) is not None


def _border(edge: str, *, word: str, digit: str) -> str:
    if edge.isdigit():
        return word + digit
    return word if edge.isalnum() else ""


def _normalise(text: str) -> str:
    composed = unicodedata.normalize("NFC", text).replace("\u2212", "-")
    return _SPACES.sub(" ", composed).strip().casefold()

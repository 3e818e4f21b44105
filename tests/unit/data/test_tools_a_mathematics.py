"""Number facts and statistics agree with definitions and the standard library."""

import importlib.util
import math
import random
import statistics
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[3] / "data" / "toolenv" / "tools" / "Mathematics"


def _load(tool: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"Mathematics_{tool}_api", TOOLS / tool / "api.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FACTS = _load("number_facts")
STATISTICS = _load("statistics_tools")
LISTS = [
    [random.Random(seed).randint(2, 150) for _ in range(3 + seed % 5)] for seed in range(1, 11)
]


@pytest.mark.parametrize("number", [1, 2, 3, 4, 36, 91, 97, 360, 997, 1000, "1,001", "12.0"])
def test_primes_are_the_numbers_with_two_divisors(number) -> None:
    value = int(float(str(number).replace(",", "")))
    divisors = sum(value % candidate == 0 for candidate in range(1, value + 1))
    answer = ("no", "yes")[divisors == 2]
    assert FACTS.is_prime(number) == {"prime": answer, "divisors": divisors}


@pytest.mark.parametrize("number", [2, 12, 97, 360, 1001, 65536, "1,404", 999_983 * 2])
def test_prime_factors_multiply_to_the_number(number) -> None:
    factors = [int(factor) for factor in FACTS.factorize(number)["factors"].split(" x ")]
    assert math.prod(factors) == int(str(number).replace(",", ""))
    assert factors == sorted(factors)
    assert all(factor % d for factor in factors for d in range(2, math.isqrt(factor) + 1))


@pytest.mark.parametrize(("first", "second"), [(12, 18), (7, 13), ("48", "180"), (100, 100)])
def test_common_divisors_and_multiples_meet_their_definitions(first, second) -> None:
    a, b = int(first), int(second)
    divisor = max(d for d in range(1, min(a, b) + 1) if a % d == 0 and b % d == 0)
    multiple = next(m for m in range(max(a, b), a * b + 1) if m % a == 0 and m % b == 0)
    assert FACTS.greatest_common_divisor(first, second) == {"gcd": divisor}
    assert FACTS.least_common_multiple(first, second) == {"lcm": multiple}


@pytest.mark.parametrize("number", [1, 4, 14, 40, 90, 400, 944, 1987, 2024, 3999])
def test_roman_numerals_read_back_to_the_number(number: int) -> None:
    values = dict(zip("IVXLCDM", (1, 5, 10, 50, 100, 500, 1000), strict=True))
    numeral = FACTS.to_roman(number)["roman"]
    sizes = [values[letter] for letter in numeral]
    signs = [-1 if size < after else 1 for size, after in zip(sizes, [*sizes[1:], 0], strict=True)]
    assert sum(map(math.prod, zip(sizes, signs, strict=True))) == number


@pytest.mark.parametrize(
    ("number", "numeral"), [(1994, "MCMXCIV"), (49, "XLIX"), ("2025", "MMXXV")]
)
def test_roman_numerals_subtract_one_letter_at_most(number, numeral) -> None:
    assert FACTS.to_roman(number) == {"roman": numeral}


@pytest.mark.parametrize("n", [1, 2, 10, 45, "69"])
def test_fibonacci_numbers_follow_binets_formula(n) -> None:
    golden = (1 + math.sqrt(5)) / 2
    value = FACTS.nth_fibonacci(n)["fibonacci"]
    assert value == pytest.approx(
        golden ** int(n) / math.sqrt(5), rel=0.15 / golden ** int(n) + 1e-9, abs=0.5
    )


def test_fibonacci_number_90_is_exact() -> None:
    # OEIS A000045.
    assert FACTS.nth_fibonacci(90) == {"fibonacci": 2880067194370816120}


@pytest.mark.parametrize(
    "function",
    [
        FACTS.is_prime,
        FACTS.factorize,
        FACTS.to_roman,
        FACTS.nth_fibonacci,
        lambda number: FACTS.greatest_common_divisor(12, number),
        lambda number: FACTS.least_common_multiple(number, 12),
    ],
)
def test_numbers_must_be_whole_and_within_bounds(function) -> None:
    with pytest.raises(ValueError, match="'3.5' is not a whole number"):
        function("3.5")
    with pytest.raises(ValueError, match="'dozen' is not a whole number"):
        function("dozen")
    with pytest.raises(ValueError, match="'-4' must lie between") as caught:
        function(-4)
    assert len(str(caught.value)) <= 100
    with pytest.raises(ValueError, match="must lie between"):
        function(10**16)


@pytest.mark.parametrize("values", LISTS, ids=str)
def test_mean_and_median_are_those_of_the_standard_library(values: list[int]) -> None:
    text = ", ".join(map(str, values))
    assert STATISTICS.mean(text)["mean"] == pytest.approx(statistics.mean(values), rel=1e-5)
    assert STATISTICS.median(text)["median"] == statistics.median(values)


@pytest.mark.parametrize("values", LISTS, ids=str)
def test_standard_deviations_are_those_of_the_standard_library(values: list[int]) -> None:
    sample = STATISTICS.standard_deviation(values)["standard_deviation"]
    population = STATISTICS.standard_deviation(str(values), "Population")["standard_deviation"]
    assert sample == pytest.approx(statistics.stdev(values), rel=1e-5)
    assert population == pytest.approx(statistics.pstdev(values), rel=1e-5)


@pytest.mark.parametrize(
    "text", ["4, 8, 15", "[4, 8, 15]", "4 8 15", "4, 8 and 15", [4, "8", 15.0]]
)
def test_lists_may_be_written_in_several_ways(text) -> None:
    assert STATISTICS.range_of_values(text) == {"range": 11, "lowest": 4, "highest": 15}
    assert STATISTICS.mean(text) == {"mean": 9, "count": 3}


@pytest.mark.parametrize(
    "function",
    [
        STATISTICS.mean,
        STATISTICS.median,
        STATISTICS.standard_deviation,
        STATISTICS.range_of_values,
    ],
)
def test_lists_must_hold_finite_numbers(function) -> None:
    with pytest.raises(ValueError, match="is not a list such as 4, 8, 15"):
        function("four, five")
    with pytest.raises(ValueError, match="0 numbers given"):
        function("")
    with pytest.raises(ValueError, match="must lie within 1e15 of 0"):
        function("1, 2, inf")


def test_a_deviation_needs_two_numbers_and_a_known_kind() -> None:
    with pytest.raises(ValueError, match="1 numbers given; 2 to 1000 needed"):
        STATISTICS.standard_deviation("5")
    with pytest.raises(ValueError, match="kind 'robust' must be sample or population"):
        STATISTICS.standard_deviation("5, 6", "robust")

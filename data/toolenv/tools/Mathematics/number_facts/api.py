"""Primes, factors, common divisors and multiples, Roman numerals and Fibonacci numbers."""

import math

_FACTOR_MAXIMUM = 10**12  # trial division up to its square root takes about 0.1 s
_NUMBER_MAXIMUM = 10**15
_FIBONACCI_MAXIMUM = 300
_ROMAN = (
    (1000, "M"),
    (900, "CM"),
    (500, "D"),
    (400, "CD"),
    (100, "C"),
    (90, "XC"),
    (50, "L"),
    (40, "XL"),
    (10, "X"),
    (9, "IX"),
    (5, "V"),
    (4, "IV"),
    (1, "I"),
)


def _integer(value: object, name: str, minimum: int, maximum: int) -> int:
    """The whole number in `value`, which may be text such as "12", "12.0" or "1,200"."""
    text = str(value).replace(",", "").strip()
    whole, point, fraction = text.partition(".")
    if point and fraction.strip("0") == "":
        text = whole
    try:
        number = int(text)
    except ValueError:
        raise ValueError(f"{name} {str(value)[:30]!r} is not a whole number") from None
    if not minimum <= number <= maximum:
        raise ValueError(f"{name} {str(value)[:30]!r} must lie between {minimum} and {maximum}")
    return number


def _prime_factors(number: int) -> list[int]:
    """Prime factors of `number` >= 2 in ascending order, repeated as often as they divide it."""
    factors = []
    divisor = 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1 if divisor == 2 else 2
    return [*factors, number] if number > 1 else factors


def is_prime(number: object) -> dict[str, object]:
    """Whether a whole number is prime, and how many divisors it has."""
    value = _integer(number, "number", 1, _FACTOR_MAXIMUM)
    factors = _prime_factors(value)
    divisors = math.prod(factors.count(factor) + 1 for factor in set(factors))
    return {"prime": "yes" if divisors == 2 else "no", "divisors": divisors}


def factorize(number: object) -> dict[str, object]:
    """Prime factors of a whole number, written as a product."""
    factors = _prime_factors(_integer(number, "number", 2, _FACTOR_MAXIMUM))
    return {"factors": " x ".join(map(str, factors)), "largest": factors[-1]}


def greatest_common_divisor(first_number: object, second_number: object) -> dict[str, object]:
    """Largest whole number that divides both; 0 counts as a multiple of every number."""
    first = _integer(first_number, "first_number", 0, _NUMBER_MAXIMUM)
    return {"gcd": math.gcd(first, _integer(second_number, "second_number", 0, _NUMBER_MAXIMUM))}


def least_common_multiple(first_number: object, second_number: object) -> dict[str, object]:
    """Smallest whole number that both divide."""
    first = _integer(first_number, "first_number", 1, _NUMBER_MAXIMUM)
    return {"lcm": math.lcm(first, _integer(second_number, "second_number", 1, _NUMBER_MAXIMUM))}


def to_roman(number: object) -> dict[str, object]:
    """Roman numeral of a whole number from 1 to 3999."""
    rest = _integer(number, "number", 1, 3999)
    numeral = ""
    for size, letters in _ROMAN:
        count, rest = divmod(rest, size)
        numeral += letters * count
    return {"roman": numeral}


def nth_fibonacci(n: object) -> dict[str, object]:
    """Fibonacci number F(n), with F(1) = F(2) = 1."""
    current, following = 0, 1
    for _ in range(_integer(n, "n", 0, _FIBONACCI_MAXIMUM)):
        current, following = following, current + following
    return {"fibonacci": current}

"""Money is converted, lent and saved as an independent calculation says."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[3] / "data" / "toolenv" / "tools" / "Finance"


def _load(tool: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"Finance_{tool}_api", TOOLS / tool / "api.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RATES = _load("currency_rates")
LIVE = _load("fx_live")
LOANS = _load("loan_calculator")
SAVINGS = _load("interest_calculator")


def _balance_after(payment: float, principal: float, annual_rate: float, months: int) -> float:
    """What is still owed when every month adds interest and subtracts the payment."""
    owed = principal
    for _ in range(months):
        owed += owed * annual_rate / 1200 - payment
    return owed


def test_a_conversion_uses_the_rate_of_the_same_table() -> None:
    # 100 USD at the table's 0.971 EUR per USD, by hand.
    assert RATES.convert_currency(100, "USD", "EUR")["converted"] == 97.1
    assert RATES.exchange_rate("USD", "EUR") == {"rate": 0.971, "date": "2025-01-15"}


@pytest.mark.parametrize(("source", "target"), [("JPY", "GBP"), ("INR", "KRW"), ("CHF", "AED")])
def test_rates_there_and_back_multiply_to_one(source: str, target: str) -> None:
    there = RATES.exchange_rate(source, target)["rate"]
    back = RATES.exchange_rate(target, source)["rate"]
    assert there * back == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(
    ("amount", "source", "target", "expected"),
    [
        ("1,000", "us dollars", "Japanese Yen", 156500),
        ("8.19", "british pounds", "usd", 10.0),
        (97.1, "Euros", "US Dollar", 100),
        (5, "SEK", "Swedish krona", 5),
        (0, "EUR", "USD", 0),
    ],
)
def test_currencies_may_be_named_in_words(amount, source, target, expected) -> None:
    assert RATES.convert_currency(amount, source, target)["converted"] == expected


def test_unknown_currencies_and_bad_amounts_are_refused() -> None:
    with pytest.raises(LookupError, match="unknown currency 'doubloons'"):
        RATES.convert_currency(5, "doubloons", "USD")
    with pytest.raises(LookupError, match="unknown currency 'XXX'"):
        RATES.exchange_rate("USD", "XXX")
    with pytest.raises(ValueError, match="amount 'much' is not a number"):
        RATES.convert_currency("much", "EUR", "USD")
    with pytest.raises(ValueError, match="amount -5 must be 0 or more"):
        RATES.convert_currency(-5, "EUR", "USD")


def test_the_live_service_is_closed() -> None:
    with pytest.raises(RuntimeError, match="service closed since"):
        LIVE.live_convert(5, "USD", "EUR")


@pytest.mark.parametrize(
    ("principal", "rate", "years"), [(20000, "4.5%", "5"), (1000, 12, 1), ("8,000", 0.3, 2.5)]
)
def test_the_monthly_payment_repays_the_loan_in_time(principal, rate, years) -> None:
    answer = LOANS.monthly_payment(principal, rate, years)
    loan = float(str(principal).replace(",", ""))
    percent = float(str(rate).rstrip("%"))
    owed = _balance_after(answer["monthly_payment"], loan, percent, answer["months"])
    assert answer["months"] == float(years) * 12
    assert abs(owed) < 0.01 * answer["months"]  # the payment is rounded to a hundredth


def test_total_interest_is_what_is_paid_beyond_the_loan() -> None:
    # 1000 over 12 months at 1 % a month: 12 x 88.8488 - 1000 (annuity table).
    assert LOANS.total_interest(1000, 12, 1)["total_interest"] == pytest.approx(66.19, abs=0.01)


def test_compound_interest_grows_period_by_period() -> None:
    amount = 2500.0
    for _ in range(4 * 7):
        amount *= 1 + 0.06 / 4
    answer = SAVINGS.compound_interest("2500", "6%", "7", compounds_per_year="4")
    assert answer["final_amount"] == pytest.approx(amount, abs=0.01)
    assert answer["interest"] == pytest.approx(amount - 2500, abs=0.01)


def test_compounding_is_yearly_unless_said_otherwise() -> None:
    # 1000 x 1.1 x 1.1, by hand.
    assert SAVINGS.compound_interest(1000, 10, 2) == {"final_amount": 1210, "interest": 210}


def test_simple_interest_is_the_same_every_year() -> None:
    # 800 x 5 % = 40 a year for 3 years.
    assert SAVINGS.simple_interest("800", 5.0, "3") == {"interest": 120, "final_amount": 920}


@pytest.mark.parametrize("rate", [0.5, 7, "25%"])
def test_money_has_doubled_after_the_doubling_time(rate) -> None:
    years = SAVINGS.doubling_time(rate)["years"]
    assert math.pow(1 + float(str(rate).rstrip("%")) / 100, years) == pytest.approx(2, rel=1e-5)


@pytest.mark.parametrize(
    "function",
    [
        LOANS.monthly_payment,
        LOANS.total_interest,
        SAVINGS.compound_interest,
        SAVINGS.simple_interest,
    ],
)
def test_loans_and_savings_need_positive_numbers(function) -> None:
    with pytest.raises(ValueError, match="principal -1 must be above 0"):
        function(-1, 5, 10)
    with pytest.raises(ValueError, match="annual_rate 500 must be above 0 and at most 100"):
        function(1000, 500, 10)
    with pytest.raises(ValueError, match="years 'ten' is not a number"):
        function(1000, 5, "ten")


def test_a_rate_of_zero_never_doubles() -> None:
    with pytest.raises(ValueError, match="annual_rate 0 must be above 0"):
        SAVINGS.doubling_time(0)


def test_very_large_savings_still_make_a_short_answer() -> None:
    answer = SAVINGS.compound_interest(10**12, 100, 200)
    assert answer["final_amount"] == pytest.approx(1e12 * 2.0**200, rel=1e-5)
    assert len(str(answer)) <= 120

"""Currency conversion with one fixed table of rates.

The table is illustrative: plausible mid-market rates rounded to 3 or 4 digits for 15 January 2025,
never updated and not fit for real payments.
"""

import math

_DATE = "2025-01-15"
_UNITS_PER_USD = {
    "USD": 1.0,
    "EUR": 0.971,
    "GBP": 0.819,
    "JPY": 156.5,
    "CHF": 0.912,
    "CAD": 1.433,
    "AUD": 1.606,
    "NZD": 1.779,
    "CNY": 7.331,
    "INR": 86.4,
    "BRL": 6.02,
    "MXN": 20.45,
    "ZAR": 18.75,
    "SEK": 11.17,
    "NOK": 11.31,
    "DKK": 7.245,
    "PLN": 4.135,
    "CZK": 24.52,
    "HUF": 400.5,
    "RON": 4.832,
    "TRY": 35.5,
    "KRW": 1457.0,
    "SGD": 1.367,
    "HKD": 7.788,
    "THB": 34.65,
    "IDR": 16310.0,
    "MYR": 4.502,
    "PHP": 58.6,
    "ILS": 3.618,
    "AED": 3.6725,
    "SAR": 3.752,
    "EGP": 50.4,
}
_NAMES = {
    "us dollar": "USD",
    "american dollar": "USD",
    "dollar": "USD",
    "euro": "EUR",
    "british pound": "GBP",
    "pound": "GBP",
    "pound sterling": "GBP",
    "japanese yen": "JPY",
    "yen": "JPY",
    "swiss franc": "CHF",
    "canadian dollar": "CAD",
    "australian dollar": "AUD",
    "new zealand dollar": "NZD",
    "chinese yuan": "CNY",
    "yuan": "CNY",
    "indian rupee": "INR",
    "rupee": "INR",
    "brazilian real": "BRL",
    "mexican peso": "MXN",
    "south african rand": "ZAR",
    "rand": "ZAR",
    "swedish krona": "SEK",
    "norwegian krone": "NOK",
    "danish krone": "DKK",
    "polish zloty": "PLN",
    "zloty": "PLN",
    "czech koruna": "CZK",
    "hungarian forint": "HUF",
    "forint": "HUF",
    "romanian leu": "RON",
    "turkish lira": "TRY",
    "south korean won": "KRW",
    "won": "KRW",
    "singapore dollar": "SGD",
    "hong kong dollar": "HKD",
    "thai baht": "THB",
    "baht": "THB",
    "indonesian rupiah": "IDR",
    "rupiah": "IDR",
    "malaysian ringgit": "MYR",
    "ringgit": "MYR",
    "philippine peso": "PHP",
    "israeli shekel": "ILS",
    "shekel": "ILS",
    "uae dirham": "AED",
    "dirham": "AED",
    "saudi riyal": "SAR",
    "egyptian pound": "EGP",
}
_NUMBER_MAXIMUM = 1e15  # whole numbers up to here are exact as floats


def _number(value: object, name: str) -> float:
    """The number in `value`, which may be text such as "1,200"."""
    try:
        number = float(str(value).replace(",", "").strip())
    except ValueError:
        number = math.nan
    if not abs(number) <= _NUMBER_MAXIMUM:  # also refuses nan
        raise ValueError(f"{name} {str(value)[:30]!r} is not a number up to 1e15, for example 12.5")
    return number


def _short(number: float) -> float:
    """`number` to 6 significant digits, as an int when it is a whole number."""
    rounded = float(f"{number:.6g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) <= _NUMBER_MAXIMUM else rounded


def _code(currency: object) -> str:
    """Three-letter code of a currency given as code or English name, singular or plural."""
    text = " ".join(str(currency).split())
    if text.upper() in _UNITS_PER_USD:
        return text.upper()
    name = text.lower()
    code = _NAMES.get(name) or _NAMES.get(name.removesuffix("s"))
    if code is None:
        raise LookupError(f"unknown currency {text[:30]!r}; use a code such as USD, EUR or JPY")
    return code


def convert_currency(
    amount: object, from_currency: object, to_currency: object
) -> dict[str, object]:
    """`amount` in another currency, at the table's rate."""
    money = _number(amount, "amount")
    if money < 0:
        raise ValueError(f"amount {_short(money)} must be 0 or more")
    source, target = _code(from_currency), _code(to_currency)
    converted = money * _UNITS_PER_USD[target] / _UNITS_PER_USD[source]
    return {"converted": _short(round(converted, 2)), "currency": target, "date": _DATE}


def exchange_rate(from_currency: object, to_currency: object) -> dict[str, object]:
    """How many units of the second currency one unit of the first buys."""
    source, target = _code(from_currency), _code(to_currency)
    return {"rate": _short(_UNITS_PER_USD[target] / _UNITS_PER_USD[source]), "date": _DATE}

"""A live currency service that has closed: every call fails."""

from typing import NoReturn


def live_convert(amount: object, from_currency: object, to_currency: object) -> NoReturn:
    """Always raises: the service no longer exists."""
    raise RuntimeError("service closed since 2024-03-31")

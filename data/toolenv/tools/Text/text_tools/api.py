"""Counting, reversing and checking short texts."""

_MAX_CHARS = 10_000


def _text(text: str) -> str:
    """The text itself; ValueError when it is empty or too long."""
    value = str(text)
    if not value.strip() or len(value) > _MAX_CHARS:
        raise ValueError(
            f"text must have 1 to {_MAX_CHARS} characters and not be blank, got {len(value)}"
        )
    return value


def count_words(text: str) -> dict[str, int]:
    """Number of words, which are separated by white space."""
    return {"words": len(_text(text).split())}


def count_letters(text: str) -> dict[str, int]:
    """Number of letters; spaces, digits and punctuation do not count."""
    return {"letters": sum(c.isalpha() for c in _text(text))}


def reverse_text(text: str) -> dict[str, str]:
    """The characters in reverse order."""
    return {"reversed": _text(text)[::-1]}


def count_vowels(text: str) -> dict[str, int]:
    """Number of the letters a, e, i, o and u."""
    return {"vowels": sum(c in "aeiou" for c in _text(text).lower())}


def title_case(text: str) -> dict[str, str]:
    """Every word with a capital first letter and small letters after it."""
    return {"title": " ".join(word[:1].upper() + word[1:].lower() for word in _text(text).split())}


def is_palindrome(text: str) -> dict[str, str]:
    """Whether the letters and digits read the same backwards: `yes` or `no`."""
    kept = [c for c in _text(text).lower() if c.isalnum()]
    return {"palindrome": "yes" if kept and kept == kept[::-1] else "no"}

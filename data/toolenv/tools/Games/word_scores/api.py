"""Scores of words in word games."""

_POINTS = {
    1: "aeilnorstu",
    2: "dg",
    3: "bcmp",
    4: "fhvwy",
    5: "k",
    8: "jx",
    10: "qz",
}  # English Scrabble tiles
_LETTER_POINTS = {letter: points for points, letters in _POINTS.items() for letter in letters}
_MAX_LETTERS = 60


def _letters(word: str) -> list[str]:
    """The small letters of a word; ValueError when it has none, too many, or one outside a to z."""
    letters = [c for c in str(word).lower() if not c.isspace() and c not in "-'"]
    if not 1 <= len(letters) <= _MAX_LETTERS or any(c not in _LETTER_POINTS for c in letters):
        raise ValueError(
            f"word must have 1 to {_MAX_LETTERS} letters a to z, not {str(word)[:20]!r}"
        )
    return letters


def scrabble_score(word: str) -> dict[str, int]:
    """Sum of the English tile values, no bonus squares."""
    return {"score": sum(_LETTER_POINTS[letter] for letter in _letters(word))}


def anagram_key(word: str) -> dict[str, str]:
    """The letters in alphabetical order; equal for anagrams of each other."""
    return {"key": "".join(sorted(_letters(word)))}

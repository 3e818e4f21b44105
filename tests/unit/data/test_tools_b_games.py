"""Dice against its documented algorithm written another way, word scores against known plays."""

import hashlib
import importlib.util
import itertools
import struct
from pathlib import Path
from types import ModuleType

import pytest

_TOOLS = Path(__file__).resolve().parents[3] / "data" / "toolenv" / "tools" / "Games"


def _load(tool: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"games_{tool}", _TOOLS / tool / "api.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


dice = _load("dice")
words = _load("word_scores")


def _numbers(seed: int, count: int) -> list[int]:
    """The documented numbers n, unpacked with struct."""
    texts = (f"{seed}:{index}".encode("ascii") for index in range(count))
    return [struct.unpack(">Q", hashlib.sha256(text).digest()[:8])[0] for text in texts]


@pytest.mark.parametrize(("sides", "count", "seed"), [(6, 3, 42), (20, 1, 0), (100, 50, 9999)])
def test_dice_follow_the_documented_algorithm(sides: int, count: int, seed: int) -> None:
    rolls = [number % sides + 1 for number in _numbers(seed, count)]
    assert dice.roll_dice(str(sides), count, f"{seed}.0") == {
        "total": sum(rolls),
        "lowest": min(rolls),
        "highest": max(rolls),
    }


def test_coins_follow_the_documented_algorithm() -> None:
    heads = len([number for number in _numbers(7, 200) if number & 1 == 0])
    assert dice.coin_flips(200, 7) == {"heads": heads, "tails": 200 - heads}


def test_many_dice_are_fair() -> None:
    means = [dice.roll_dice(6, 100, seed)["total"] / 100 for seed in range(50)]
    # 5000 dice: mean 3.5 with a standard error of 0.024
    assert sum(means) / len(means) == pytest.approx(3.5, abs=0.1)


@pytest.mark.parametrize(
    ("word", "score"),
    # base values printed on the tiles: Q10 U1 I1 Z10; J8 U1 K5 E1 B3 O1 X8; C3 A1 T1
    [("quiz", 22), ("Jukebox", 27), ("cat", 5), ("  CAT ", 5)],
)
def test_scrabble_scores_match_the_tiles(word: str, score: int) -> None:
    assert words.scrabble_score(word) == {"score": score}


def test_a_full_set_of_tiles_is_worth_187_points() -> None:
    # the 98 lettered tiles of the English set and their counts
    tiles = "a9b2c2d4e12f2g3h2i9j1k1l4m2n6o8p2q1r6s4t6u4v2w2x1y2z1"
    pairs = [(letter, "".join(digits)) for letter, digits in _letter_counts(tiles)]
    total = sum(words.scrabble_score(letter)["score"] * int(count) for letter, count in pairs)
    assert total == 187


def _letter_counts(text: str) -> list[tuple[str, list[str]]]:
    groups = [list(group) for _, group in itertools.groupby(text, key=str.isalpha)]
    return [(group[0], digits) for group, digits in zip(groups[::2], groups[1::2], strict=True)]


def test_anagrams_have_the_same_key() -> None:
    assert words.anagram_key("listen") == {"key": "eilnst"}
    assert words.anagram_key("Silent") == words.anagram_key("enlist") == {"key": "eilnst"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dice.roll_dice(1, 3, 42), "sides must be a whole number 2 to 1000, not '1'"),
        (lambda: dice.roll_dice(6, 101, 42), "count must be a whole number 1 to 100, not '101'"),
        (lambda: dice.roll_dice(6, 2.5, 42), "count must be a whole number"),
        (lambda: dice.roll_dice(6, 3, "lucky"), "seed must be a whole number"),
        (lambda: dice.coin_flips(0, 42), "count must be a whole number 1 to 1000"),
        (lambda: words.scrabble_score("two2"), "word must have 1 to 60 letters a to z, not 'two2'"),
        (lambda: words.anagram_key(""), "word must have 1 to 60 letters"),
    ],
)
def test_impossible_throws_and_words_are_refused(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call()

"""Dice and coins that fall the same way for the same seed.

Algorithm: throw i (from 0) takes the first 8 bytes, big-endian, of SHA-256 of the ASCII text "<seed>:<i>" as a
number n. A die with s sides shows n % s + 1; a coin shows heads when n is even.
"""

import hashlib
import math

_MAX_DICE = 100
_MAX_FLIPS = 1_000
_MAX_SEED = 2**53


def _whole(name: str, value: int | float | str, low: int, high: int) -> int:
    """The whole number in `value`; ValueError names the parameter and its limits."""
    try:
        number = float(str(value).replace(",", "").strip())
    except ValueError:
        number = math.nan
    if not (low <= number <= high and number == int(number)):
        raise ValueError(f"{name} must be a whole number {low} to {high}, not {str(value)[:20]!r}")
    return int(number)


def _draw(seed: int, index: int) -> int:
    """The number n of one throw, below 2**64."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{index}".encode()).digest()[:8], "big")


def roll_dice(sides: int | str, count: int | str, seed: int | str) -> dict[str, int]:
    """Total, lowest and highest of `count` dice."""
    faces = _whole("sides", sides, 2, 1_000)
    number = _whole("count", count, 1, _MAX_DICE)
    start = _whole("seed", seed, 0, _MAX_SEED)
    rolls = [_draw(start, index) % faces + 1 for index in range(number)]
    return {"total": sum(rolls), "lowest": min(rolls), "highest": max(rolls)}


def coin_flips(count: int | str, seed: int | str) -> dict[str, int]:
    """Number of heads and of tails among `count` coins."""
    number = _whole("count", count, 1, _MAX_FLIPS)
    start = _whole("seed", seed, 0, _MAX_SEED)
    heads = sum(_draw(start, index) % 2 == 0 for index in range(number))
    return {"heads": heads, "tails": number - heads}

"""Text tools and encoder against hand counts, RFC test vectors and other routes."""

import binascii
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

_TOOLS = Path(__file__).resolve().parents[3] / "data" / "toolenv" / "tools" / "Text"


def _load(tool: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"text_{tool}", _TOOLS / tool / "api.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


text_tools = _load("text_tools")
encoder = _load("encoder")


def _crc32_bit_by_bit(data: bytes) -> int:
    """CRC-32 by its definition: reflected polynomial, start and end inverted (PNG, annex D)."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0xEDB88320 * (register & 1))
    return register ^ 0xFFFFFFFF


def test_words_letters_and_vowels_match_a_hand_count() -> None:
    # the  quick brown fox = 4 words, 3 + 5 + 5 + 3 letters, vowels e u i o o
    assert text_tools.count_words("the  quick brown fox") == {"words": 4}
    assert text_tools.count_letters("the  quick brown fox") == {"letters": 16}
    assert text_tools.count_vowels("the  quick brown fox") == {"vowels": 5}


def test_digits_and_punctuation_are_no_letters() -> None:
    assert text_tools.count_letters("J. R. R. Tolkien, 1937") == {"letters": 10}


def test_reversed_twice_is_the_text_itself() -> None:
    assert text_tools.reverse_text("stressed") == {"reversed": "desserts"}
    assert text_tools.reverse_text("desserts") == {"reversed": "stressed"}


def test_title_case_capitalises_each_word() -> None:
    assert text_tools.title_case("war AND peace") == {"title": "War And Peace"}


@pytest.mark.parametrize(
    ("text", "verdict"),
    [("Racecar", "yes"), ("A man, a plan, a canal: Panama", "yes"), ("planet", "no"), ("?!", "no")],
)
def test_palindromes_ignore_case_and_punctuation(text: str, verdict: str) -> None:
    assert text_tools.is_palindrome(text) == {"palindrome": verdict}


@pytest.mark.parametrize(
    ("text", "encoded"),
    # RFC 4648 section 10
    [("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")],
)
def test_base64_matches_the_test_vectors_of_the_rfc(text: str, encoded: str) -> None:
    assert encoder.base64_encode(text) == {"base64": encoded}


def test_hex_decodes_to_the_text() -> None:
    digits = encoder.hex_encode("garden")["hex"]
    assert digits == "67617264656e"
    assert binascii.unhexlify(digits).decode() == "garden"


def test_rot13_is_its_own_inverse() -> None:
    assert encoder.rot13("Hello") == {"rot13": "Uryyb"}
    assert encoder.rot13("Uryyb") == {"rot13": "Hello"}


def test_crc32_matches_the_check_value_and_the_definition() -> None:
    # 0xCBF43926 is the published check value of CRC-32 for "123456789"
    assert encoder.crc32("123456789") == {"crc32": "cbf43926"}
    assert encoder.crc32("apple") == {"crc32": f"{_crc32_bit_by_bit(b'apple'):08x}"}


@pytest.mark.parametrize(
    ("text", "prefix"),
    # RFC 1321 appendix A.5
    [("a", "0cc175b9"), ("abc", "90015098"), ("message digest", "f96b697d")],
)
def test_md5_prefix_matches_the_test_suite_of_the_rfc(text: str, prefix: str) -> None:
    assert encoder.md5_prefix(text) == {"md5": prefix}


@pytest.mark.parametrize(
    "api",
    ["count_words", "count_letters", "reverse_text", "count_vowels", "title_case", "is_palindrome"],
)
@pytest.mark.parametrize("text", ["", "   ", "x" * 10_001])
def test_blank_or_huge_text_is_refused(api: str, text: str) -> None:
    with pytest.raises(ValueError, match="text must have 1 to 10000 characters"):
        getattr(text_tools, api)(text)


@pytest.mark.parametrize("api", ["base64_encode", "hex_encode", "rot13", "crc32", "md5_prefix"])
@pytest.mark.parametrize("text", ["", "x" * 1_001])
def test_encoder_refuses_empty_or_huge_text(api: str, text: str) -> None:
    with pytest.raises(ValueError, match="text must have 1 to 1000 characters"):
        getattr(encoder, api)(text)


def test_importing_the_tools_prints_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-I", str(_TOOLS / "encoder" / "api.py")],
        capture_output=True,
        timeout=20,
        check=True,
    )
    assert done.stdout + done.stderr == b""

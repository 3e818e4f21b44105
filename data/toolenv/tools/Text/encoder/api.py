"""Encodings and checksums of short texts, always of their UTF-8 bytes."""

import base64
import codecs
import hashlib
import zlib

_MAX_CHARS = 1_000


def _text(text: str) -> str:
    """The text itself; ValueError when it is empty or too long."""
    value = str(text)
    if not 1 <= len(value) <= _MAX_CHARS:
        raise ValueError(f"text must have 1 to {_MAX_CHARS} characters, got {len(value)}")
    return value


def base64_encode(text: str) -> dict[str, str]:
    """Standard base64 with padding (RFC 4648 section 4)."""
    return {"base64": base64.b64encode(_text(text).encode()).decode()}


def hex_encode(text: str) -> dict[str, str]:
    """Two small hexadecimal digits for each byte."""
    return {"hex": _text(text).encode().hex()}


def rot13(text: str) -> dict[str, str]:
    """Every Latin letter moved by 13 places."""
    return {"rot13": codecs.encode(_text(text), "rot13")}


def crc32(text: str) -> dict[str, str]:
    """CRC-32 (the polynomial of zip and PNG) as eight hexadecimal digits."""
    return {"crc32": f"{zlib.crc32(_text(text).encode()):08x}"}


def md5_prefix(text: str) -> dict[str, str]:
    """The first eight hexadecimal digits of the MD5 digest; a fingerprint, not for security."""
    return {"md5": hashlib.md5(_text(text).encode(), usedforsecurity=False).hexdigest()[:8]}

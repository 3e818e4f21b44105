"""Decompression of response bodies with a bound on what comes out (zip bombs)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from services.toolenv.egress.errors import ResponseTooLarge

ACCEPTED_ENCODINGS = "gzip, deflate"
"""What to ask servers for: encodings whose output can be bounded step by step."""
_GZIP_START = b"\x1f\x8b"
_STEP_BYTES = 64 << 10


class UnknownEncoding(ValueError):
    """The body is encoded in a way nobody asked for."""


class Decoder:
    """Decodes one body; never holds more than 64 KiB of output at once."""

    def __init__(self, encoding: str, *, limit_bytes: int) -> None:
        """Prepare for a `Content-Encoding`.

        Args:
            encoding: Value of the header; empty means identity.
            limit_bytes: Most bytes in, and most bytes out.

        Raises:
            UnknownEncoding: It is none of identity, gzip and deflate, or several at once.
        """
        name = encoding.strip().lower()
        if name not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise UnknownEncoding(f"content-encoding {name[:60]!r} is not {ACCEPTED_ENCODINGS}")
        self.is_identity = name in ("", "identity")
        self._limit_bytes = limit_bytes
        self._is_deflate = name == "deflate"
        self._start = b""
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)  # zlib or gzip by its header
        self._in = self._out = 0

    @property
    def is_complete(self) -> bool:
        """Whether what was fed ends where the encoding says; always true of identity."""
        return self.is_identity or not self._in or (self._inflater.eof and not self._start)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decoded pieces of `data`.

        Raises:
            ResponseTooLarge: Input or output exceeds the limit.
            zlib.error: The body is damaged.
        """
        self._in += len(data)
        self._check(self._in, "the response")
        if self.is_identity:
            yield data
            return
        data = self._after_start(data)
        while data:
            piece, data = self._inflate(data)
            self._out += len(piece)
            self._check(self._out, "the decompressed response")
            if piece:
                yield piece

    def _after_start(self, data: bytes) -> bytes:
        """What may be decoded now: nothing before the first two bytes have shown the format."""
        if not self._is_deflate:
            return data
        data, self._start = self._start + data, b""
        if len(data) < 2:
            self._start = data
            return b""
        if data[0] & 0x0F != 8 or (data[0] << 8 | data[1]) % 31:
            # Many servers send raw deflate under this name (RFC 9110, 8.4.1.2, note).
            self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._is_deflate = False
        return data

    def _inflate(self, data: bytes) -> tuple[bytes, bytes]:
        """One bounded piece, and what is still to be decoded."""
        if self._inflater.eof:
            if not data.startswith(_GZIP_START[: len(data)]):
                return b"", b""  # padding behind the end, which some servers write
            self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)  # the file's next member
        piece = self._inflater.decompress(data, _STEP_BYTES)
        return piece, self._inflater.unconsumed_tail or self._inflater.unused_data

    def _check(self, count: int, what: str) -> None:
        if count > self._limit_bytes:
            raise ResponseTooLarge(limit_bytes=self._limit_bytes, what=what)

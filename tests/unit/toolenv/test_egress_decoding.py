"""Decompression with a bound."""

import gzip
import zlib

import pytest

from services.toolenv.egress.decoding import Decoder, UnknownEncoding
from services.toolenv.egress.errors import ResponseTooLarge

_TEXT = b"The quick brown fox. " * 5000


def _decode(encoding, data, *, limit_bytes=1 << 20, step=1000):
    decoder = Decoder(encoding, limit_bytes=limit_bytes)
    parts = (data[start : start + step] for start in range(0, len(data), step))
    return b"".join(piece for part in parts for piece in decoder.feed(part))


def _raw_deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("", _TEXT),
        ("identity", _TEXT),
        ("gzip", gzip.compress(_TEXT)),
        ("X-GZIP", gzip.compress(_TEXT)),
        ("gzip", gzip.compress(_TEXT[:70]) + gzip.compress(_TEXT[70:])),
        ("deflate", zlib.compress(_TEXT)),
        ("deflate", _raw_deflate(_TEXT)),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_a_body_is_decoded_whatever_its_pieces(encoding, data, step):
    assert _decode(encoding, data, step=step) == _TEXT


def test_a_bomb_stops_at_the_limit_after_little_work():
    bomb = gzip.compress(bytes(200 << 20), 9)
    decoder = Decoder("gzip", limit_bytes=1 << 20)
    seen = 0
    with pytest.raises(
        ResponseTooLarge, match="decompressed response exceeds the limit of 1048576"
    ):
        for piece in decoder.feed(bomb):
            seen += len(piece)
    assert seen <= 1 << 20


def test_a_plain_body_stops_at_the_limit():
    with pytest.raises(ResponseTooLarge):
        _decode("", bytes(1001), limit_bytes=1000, step=100)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress"])
def test_an_encoding_that_nobody_asked_for_is_refused(encoding):
    with pytest.raises(UnknownEncoding):
        Decoder(encoding, limit_bytes=10)


def test_a_damaged_body_is_an_error():
    with pytest.raises(zlib.error):
        _decode("gzip", b"this is not gzip at all")


def test_a_compressed_body_that_is_cut_off_is_not_complete():
    packed = gzip.compress(b"0123456789" * 100)
    for size, is_complete in ((0, True), (1, False), (len(packed) - 1, False), (len(packed), True)):
        decoder = Decoder("gzip", limit_bytes=1 << 20)
        list(decoder.feed(packed[:size]))
        assert decoder.is_complete is is_complete, size

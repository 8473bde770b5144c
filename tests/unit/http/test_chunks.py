"""A body in chunks: what it costs in memory, and how much of it is read in one call."""

from __future__ import annotations

import tracemalloc

import pytest

from cyclone_sse.errors import Refusal
from cyclone_sse.http.chunks import CHUNKS_AT_ONCE, ChunkedBody

SIZE = 1 << 17


@pytest.mark.slow
def test_a_body_in_tiny_chunks_costs_its_bytes() -> None:
    piece = b"2\r\nxx\r\n" * 8192
    body, buffer = ChunkedBody(1 << 20), bytearray()
    tracemalloc.start()
    try:
        for _ in range(SIZE // 16384):
            buffer += piece
            while buffer:
                assert not body.read(buffer)
        assert tracemalloc.get_traced_memory()[1] < 3 * SIZE
    finally:
        tracemalloc.stop()
    buffer += b"0\r\n\r\n"
    assert body.read(buffer)
    assert body.data == b"x" * SIZE


def test_a_call_reads_so_many_chunks_and_leaves_the_rest() -> None:
    body, buffer = ChunkedBody(1 << 20), bytearray(b"1\r\nx\r\n" * (CHUNKS_AT_ONCE + 1) + b"0\r\n\r\n")
    assert not body.read(buffer)
    assert body.stopped_early
    assert len(body.data) == CHUNKS_AT_ONCE
    assert body.read(buffer)
    assert not body.stopped_early
    assert not buffer


@pytest.mark.parametrize("data", [b"z\r\n", b"-1\r\n", b"1\r\nab\r\n", b"0\r\nno colon\r\n\r\n", b"1\n"])
def test_what_is_no_chunk_is_refused(data: bytes) -> None:
    with pytest.raises(Refusal):
        ChunkedBody(100).read(bytearray(data))

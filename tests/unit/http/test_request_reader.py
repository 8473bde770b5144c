"""The reader alone: any bytes are read or refused."""

from __future__ import annotations

from collections.abc import Iterator

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.errors import Refusal
from cyclone_sse.http.request_reader import (
    _MAX_KNOWN,
    _MAX_SEEN,
    RequestHead,
    RequestReader,
    _known_heads,
    _known_sections,
    _seen,
)

HEAD = b"POST /publish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def wanted(head: RequestHead) -> bool:
    return True


def read(data: bytes, step: int) -> Iterator[tuple[str, str, bytes]]:
    """The requests in these bytes, sent in pieces: method, target, body."""
    reader = RequestReader(1 << 20)
    for start in range(0, len(data), step):
        reader.buffer += data[start : start + step]
        while (found := reader.pop_request(wanted)) or reader.stopped_early:
            if found:
                head, body = found
                yield head.method, f"{head.path}?{head.query}" if head.query else head.path, body


def test_a_body_that_nothing_needs_is_left() -> None:
    reader = RequestReader(10)
    reader.buffer += b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    found = reader.pop_request(lambda head: False)
    assert found is not None
    assert found[1] == b""
    assert reader.is_over


@pytest.mark.parametrize("beginning", [b"GET /", b"GET / HTTP/1.1\r\nA: ", HEAD + b"1;", HEAD + b"0\r\nA: "])
def test_what_does_not_end_is_refused_before_it_is_large(beginning: bytes) -> None:
    reader = RequestReader(1 << 20)
    reader.buffer += beginning
    sent = 0

    def go_on() -> None:
        nonlocal sent
        while sent < 20_000:
            sent += 1
            reader.buffer += b"a"
            reader.pop_request(wanted)

    with pytest.raises(Refusal):
        go_on()


@pytest.fixture
def nothing_known() -> None:
    for known in (_known_heads, _known_sections, _seen):
        known.clear()


def remembered(data: bytes) -> tuple[bool, bool]:
    """Whether the head, and its headers, are remembered after these bytes have come twice; never before."""
    reader = RequestReader(100)
    for _ in range(2):
        assert not _known_heads
        assert not _known_sections
        reader.buffer += data
        assert reader.pop_request(wanted)
    return bool(_known_heads), bool(_known_sections)


LONG = b"y" * 1100


@pytest.mark.parametrize(
    ("line", "head", "headers"),
    [
        (b"X: y", True, True),
        (b"X: " + LONG, False, False),
        (b"authorization: Bearer secret", False, False),
        (b"Cookie: a=b", False, False),
        (b"Last-Event-ID: 1-0-a", True, True),
    ],
)
def test_short_headers_that_come_twice_and_are_not_of_one_client_are_remembered(
    nothing_known: None, line: bytes, head: bool, headers: bool
) -> None:
    assert remembered(b"GET / HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n") == (head, headers)


@pytest.mark.parametrize(
    ("target", "head"),
    [
        (b"/", True),
        (b"/publish", True),
        (b"/?channels=a", True),
        (b"/?channel=room%3A1&fields=channel&presence=1", True),
        (b"/?channels=a&access_token=t", False),
        (b"/?channels=a&%61ccess_token=t", False),
        (b"/?channels=a&own=t", False),
        (b"/?own=t&channels=a", False),
        (b"/?own&channels=a", False),
        (b"/feed/secret?channels=a", False),
        (b"/?channels=" + LONG, False),
    ],
)
def test_a_request_line_that_may_hold_a_secret_or_is_long_is_not_remembered(
    nothing_known: None, target: bytes, head: bool
) -> None:
    assert remembered(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n") == (head, True)


def test_what_is_remembered_is_bounded(nothing_known: None) -> None:
    reader = RequestReader(10)
    for number in range(2 * _MAX_KNOWN):
        for _ in range(2):
            reader.buffer += b"GET / HTTP/1.1\r\nHost: x\r\nX: %d\r\n\r\n" % number
            assert reader.pop_request(wanted)
        assert len(_known_heads) <= _MAX_KNOWN
        assert len(_known_sections) <= _MAX_KNOWN
        assert len(_seen) <= _MAX_SEEN


token = st.text("abcXYZ019-_.~!", min_size=1, max_size=8)
value = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
message = st.tuples(
    st.sampled_from(["GET", "POST", "PUT", "BREW"]),
    st.text("abc/=&-_", max_size=12).map(lambda text: "/" + text),
    st.dictionaries(token.map(lambda name: "x-" + name), value, max_size=4),
    st.lists(st.binary(min_size=1, max_size=30), max_size=4),
    st.booleans(),
)


@given(st.lists(message, max_size=4), st.integers(1, 40))
def test_what_another_implementation_writes_is_read_as_it_was_meant(
    messages: list[tuple[str, str, dict[str, str], list[bytes], bool]], step: int
) -> None:
    """h11 writes the requests."""
    data, expected = b"", []
    for method, target, fields, pieces, chunked in messages:
        connection = h11.Connection(our_role=h11.CLIENT)
        length = (
            ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(b"".join(pieces))))
        )
        headers = [("Host", "x"), length, *fields.items()]
        data += connection.send(h11.Request(method=method, target=target, headers=headers)) or b""
        for piece in pieces:
            data += connection.send(h11.Data(data=piece)) or b""
        data += connection.send(h11.EndOfMessage()) or b""
        expected.append((method, target, b"".join(pieces)))
    assert list(read(data, step)) == expected


pieces = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n",
        b"Host: x\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        HEAD,
        b"5\r\nabcde\r\n",
        b"0\r\n\r\n",
        b"Content-Length: 5\r\n",
        b" ",
        b":",
    ]
)


@given(st.lists(st.one_of(st.binary(max_size=50), pieces), max_size=12), st.integers(1, 20))
def test_bytes_are_read_alike_however_they_fall(parts: list[bytes], step: int) -> None:
    def outcome(step: int) -> tuple[list[object], int | None]:
        found: list[object] = []
        try:
            for each in read(b"".join(parts), step):
                found.append(each)
        except Refusal as refusal:
            return found, refusal.status
        return found, None

    assert outcome(step) == outcome(1 << 20)

"""Probes after the rules for the body: its length, its coding, its chunks: RFC 9112 6 and 7, 9110 6 and 8."""

from __future__ import annotations

import pytest

from tests.unit.http.probes import BODY, CHUNKED, CHUNKS, NEXT, POST, Probe, Probes, run

PROBES = Probes()
probe = PROBES.add

# RFC 9112 6.2: Content-Length
for length in (
    "-1",
    "+19",
    "0x13",
    "19 ",
    "1 9",
    "19,19",
    "19, 19",
    "19;",
    "",
    " ",
    "a",
    "1.9e1",
    "\xb2",
    "19.0",
    "1_9",
):
    data = f"{POST}Content-Length: {length}\r\n\r\n{BODY}"
    if length.strip() == "19":
        probe("9110 8.6", f"Content-Length {length!r}", data, 200, gone=False)
    else:
        probe("9110 8.6", f"Content-Length {length!r}", data, 400, gone=True)
probe(
    "9112 6.3", "two lengths", f"{POST}Content-Length: 19\r\nContent-Length: 20\r\n\r\n{BODY}", 400, gone=True
)
probe(
    "9112 6.3",
    "twice the same",
    f"{POST}Content-Length: 19\r\nContent-Length: 19\r\n\r\n{BODY}",
    400,
    gone=True,
)
probe("9110 8.6", "leading zeros", f"{POST}Content-Length: 0019\r\n\r\n{BODY}{NEXT}", 200, 200, gone=False)
probe("9110 15.5.14", "too large", f"{POST}Content-Length: 1001\r\n\r\n", 413, gone=True)
for digits in (20, 400, 5000):
    probe("9110 8.6", f"{digits} digits", f"{POST}Content-Length: {'9' * digits}\r\n\r\n", 413, gone=True)
probe(
    "9112 6.3",
    "a body after which a request follows",
    f"{POST}Content-Length: 19\r\n\r\n{BODY}{NEXT}",
    200,
    200,
)
probe("9112 6.3", "no length, no body", f"{POST}\r\n{NEXT}", 400, 200, gone=False)

# RFC 9112 6.1: Transfer-Encoding
for coding in (
    "gzip",
    "identity",
    "xchunked",
    "chunked, gzip",
    "chunked, chunked",
    "",
    "chunked;a=b",
    "chunked,",
    "\x0bchunked",
):
    probe(
        "9112 6.3",
        f"Transfer-Encoding {coding!r}",
        f"{POST}Transfer-Encoding: {coding}\r\n\r\n{CHUNKS}",
        400,
        gone=True,
    )
probe(
    "9112 6.1",
    "a coding that is unknown",
    f"{POST}Transfer-Encoding: gzip, chunked\r\n\r\n{CHUNKS}",
    501,
    gone=True,
)
probe(
    "9112 7",
    "codings have no case",
    f"{POST}transfer-encoding: CHUNKED\r\n\r\n{CHUNKS}{NEXT}",
    200,
    200,
    gone=False,
)
probe(
    "9112 6.1",
    "with Content-Length",
    f"{POST}Content-Length: 19\r\nTransfer-Encoding: chunked\r\n\r\n{CHUNKS}",
    400,
    gone=True,
)
probe(
    "9112 6.1",
    "the other way round",
    f"{POST}Transfer-Encoding: chunked\r\nContent-Length: 19\r\n\r\n{CHUNKS}",
    400,
    gone=True,
)
probe("9112 6.1", "with HTTP/1.0", f"{CHUNKED}{CHUNKS}".replace("HTTP/1.1", "HTTP/1.0"), 400, gone=True)
probe(
    "9112 6.1",
    "twice",
    f"{POST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n{CHUNKS}",
    400,
    gone=True,
)
probe(
    "9112 5.1",
    "with a space before the colon",
    f"{POST}Transfer-Encoding : chunked\r\n\r\n{CHUNKS}",
    400,
    gone=True,
)

# RFC 9112 7.1: chunks
probe("9112 7.1", "chunks", f"{CHUNKED}{CHUNKS}{NEXT}", 200, 200, gone=False)
probe(
    "9112 7.1",
    "hexadecimal in either case",
    f"{CHUNKED}0a\r\nchannel=a&\r\n9\r\nmessage=b\r\n000\r\n\r\n{NEXT}",
    200,
    200,
)
probe(
    "9112 7.1.1",
    "extensions are ignored",
    f'{CHUNKED}13;a=b;c="d";e\r\n{BODY}\r\n0;f\r\n\r\n{NEXT}',
    200,
    200,
)
probe("9112 7.1.1", "space before an extension", f"{CHUNKED}13 ; a=b\r\n{BODY}\r\n0\r\n\r\n{NEXT}", 200, 200)
probe(
    "9112 7.1.2",
    "trailers are ignored",
    f"{CHUNKED}13\r\n{BODY}\r\n0\r\nA: b\r\nC: d\r\n\r\n{NEXT}",
    200,
    200,
    gone=False,
)
probe(
    "9110 6.5.1",
    "no trailer is a header",
    f"{CHUNKED}13\r\n{BODY}\r\n0\r\nConnection: close\r\nHost: y\r\n\r\n{NEXT}",
    200,
    200,
    gone=False,
)
for size in (
    "",
    "zz",
    "-13",
    "+13",
    "0x13",
    "13 ",
    " 13",
    "13\t",
    "1 3",
    "13\n",
    "\x0013",
    "13;a\x00",
    "13\r",
):
    probe("9112 7.1", f"chunk size {size!r}", f"{CHUNKED}{size}\r\n{BODY}\r\n0\r\n\r\n{NEXT}", 400, gone=True)
for size in ("3e9", "ffffffff", "fffffffffffffffff", "f" * 1000):
    probe("9112 7.1", f"chunk size {size[:20]} cannot fit", f"{CHUNKED}{size}\r\n", 413, gone=True)
probe("9112 7.1", "longer than its size", f"{CHUNKED}5\r\n{BODY}\r\n0\r\n\r\n", 400, gone=True)
probe("9112 7.1", "ended by LF", f"{CHUNKED}13\n{BODY}\n0\n\n", 400, gone=True)
probe("9112 7.1", "data ended by LF", f"{CHUNKED}13\r\n{BODY}\n0\r\n\r\n", 400, gone=True)
probe(
    "9112 7.1.1", "an extension of 5 kB", f"{CHUNKED}13;a={'b' * 5000}\r\n{BODY}\r\n0\r\n\r\n", 431, gone=True
)
probe("9112 7.1.2", "a malformed trailer", f"{CHUNKED}0\r\nno colon\r\n\r\n", 400, gone=True)
probe(
    "9112 7.1.2",
    "trailers of 70 kB",
    f"{CHUNKED}0\r\n{('A: ' + 'b' * 1000 + chr(13) + chr(10)) * 70}\r\n",
    431,
    gone=True,
)


@pytest.mark.parametrize("each", PROBES, ids=str)
def test_the_answer_is_as_the_rule_says(each: Probe) -> None:
    run(each)

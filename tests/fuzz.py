"""Feeds everything that a client can send with bytes from a fuzzer: `python -m tests.fuzz TARGET DIRECTORY`.

atheris follows which lines the bytes reach, and keeps those that reach new ones in the directory. A target
fails by any exception that is not the refusal it may raise.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["cyclone_sse", "python_multipart"]):
    from cyclone_sse.delivery.events import EventId
    from cyclone_sse.delivery.publication import Publication
    from cyclone_sse.errors import Refusal
    from cyclone_sse.http.forms import read_multipart, url_encoded
    from cyclone_sse.http.request_reader import RequestReader
    from cyclone_sse.slices import finish
    from cyclone_sse.strict_json import read_json
    from tests.unit.http.peer import PUBLISH, STATS, SUBSCRIBE, Peer, parse


def reader(data: bytes) -> None:
    """The requests of one connection, in pieces whose size the first byte says."""
    step = data[0] + 1 if data else 1
    one = RequestReader(max_body=100)
    with suppress(Refusal):
        for start in range(1, len(data), step):
            one.buffer += data[start : start + step]
            while one.pop_request(lambda head: True) or one.stopped_early:
                pass


def connection(data: bytes) -> None:
    """A whole server: every answer is well-formed, and none says that it is our fault."""
    peer = Peer()
    peer.send(data)
    answers = peer.transport.value()
    if b"HEAD " in data:  # from the answers alone one cannot tell which of them have no body
        statuses = [int(status) for status in re.findall(rb"^HTTP/1\.1 (\d{3}) ", answers, re.MULTILINE)]
    else:
        statuses = [response.status for response in parse(answers)]
    assert all(status < 500 or status in (501, 505) for status in statuses), data


def form(data: bytes) -> None:
    """A query, an urlencoded body, a multipart one."""
    with suppress(Refusal):
        url_encoded(data)
    with suppress(Refusal):
        finish(read_multipart("multipart/form-data; boundary=B", data))
    with suppress(Refusal):
        finish(read_multipart("multipart/form-data; " + data.decode("latin-1"), b"--B--\r\n"))


def publication(data: bytes) -> None:
    """What a publisher says, as JSON and as a form."""
    with suppress(ValueError):
        Publication.from_json(read_json(data))
    with suppress(Refusal, ValueError):
        Publication.from_form(url_encoded(data))


def event_id(data: bytes) -> None:
    """The last event id with which a client reconnects."""
    text = data.decode("latin-1")
    parsed = EventId.parse(text)
    if parsed is not None:
        assert EventId.parse(str(parsed)) == parsed


_FORM = b"channel=a&message=b&event=c&retry=5&channels%5B%5D=d"
_JSON = b'[{"channel": ["a"], "message": {"b": 1}, "event": "c", "retry": 5}]'
_CHUNKS = (
    b"POST /publish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;a=b\r\nabcde\r\n0\r\nA: b\r\n\r\n"
)
_PART = (
    b'--B\r\nContent-Disposition: form-data; name="a"; filename=b\r\nContent-Type: c\r\n\r\nd\r\n--B--\r\n'
)
# What each target begins with: without an example a fuzzer takes days to find the first header.
SEEDS: dict[Callable[[bytes], None], tuple[bytes, ...]] = {
    reader: (b"\xff" + STATS + PUBLISH, b"\x01" + STATS, b"\x07" + _CHUNKS),
    connection: (
        STATS + PUBLISH,
        SUBSCRIBE,
        _CHUNKS,
        STATS.replace(b"GET /", b"OPTIONS http://x/%73?a=%C3%A9&"),
    ),
    form: (_FORM, _PART, b'boundary="a b"; c=d'),
    publication: (_FORM, _JSON, _JSON[1:-1]),
    event_id: (b"1700000000000-1-abcdef", b"1700000000000-0", b"earliest"),
}
TARGETS = {each.__name__: each for each in SEEDS}


def main() -> None:
    """Fuzz one target with libFuzzer's own arguments, from its seeds."""
    target = TARGETS[sys.argv.pop(1)]
    for number, seed in enumerate(SEEDS[target]):
        Path(sys.argv[1], f"seed-{number}").write_bytes(seed)
    atheris.enabled_hooks.add("RegEx")
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

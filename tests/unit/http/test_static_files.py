"""The demo page and its scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyclone_sse.http.headers import Headers
from cyclone_sse.http.static_files import File, load, precondition
from tests.unit.http.peer import Peer, parse

FILE = File("text/plain", b"x", '"tag"', 1_000_000_000)  # 2001-09-09 01:46:40
THEN, BEFORE = "Sun, 09 Sep 2001 01:46:40 GMT", "Sun, 09 Sep 2001 01:46:39 GMT"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"If-None-Match": '"tag"'}, 304),
        ({"If-None-Match": 'W/"tag"'}, 304),
        ({"If-None-Match": '"a", "tag"'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-None-Match": "tag"}, 200),
        ({"If-None-Match": '"other"', "If-Modified-Since": THEN}, 200),
        ({"If-Modified-Since": THEN}, 304),
        ({"If-Modified-Since": BEFORE}, 200),
        ({"If-Modified-Since": "never"}, 200),
        ({"If-Modified-Since": "Sun, 99 Sep 2001 01:46:40 GMT"}, 200),
        ({"If-Modified-Since": ""}, 200),
        ({"If-Match": '"tag"'}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": '"a", "tag"'}, 200),
        ({"If-Match": 'W/"tag"'}, 412),
        ({"If-Match": '"other"'}, 412),
        ({"If-Match": "a" + " " * 16000 + "b"}, 412),
        ({"If-Unmodified-Since": THEN}, 200),
        ({"If-Unmodified-Since": BEFORE}, 412),
        ({"If-Unmodified-Since": "never"}, 200),
        ({"If-Match": '"tag"', "If-Unmodified-Since": BEFORE}, 200),
    ],
)
def test_conditions(headers: dict[str, str], status: int) -> None:
    """RFC 9110 13."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert precondition(Headers.from_raw(raw), FILE) == status


def test_what_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text("1")
    (tmp_path / "b.unknown").write_text("2")
    (tmp_path / "c").mkdir()
    assert list(load(tmp_path)) == ["a.js"]


def test_a_copy_is_kept_as_long_as_it_is_the_same() -> None:
    peer = Peer()
    request = b"GET /media/demo.js HTTP/1.1\r\nHost: x\r\n"
    (first,) = parse(peer.send(request + b"\r\n"))
    assert first.status == 200
    peer.send(request + f"If-None-Match: {first.headers['etag']}\r\n\r\n".encode())
    second = parse(peer.transport.value())[1]
    assert (second.status, second.body) == (304, b"")
    for name in ("etag", "cache-control", "date"):
        assert name in second.headers


def test_the_page_may_run_nothing_but_its_own_scripts() -> None:
    (response,) = parse(Peer().send(b"GET /demo HTTP/1.1\r\nHost: x\r\n\r\n"))
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "style-src 'self';" in policy
    assert b"<style" not in response.body
    assert b"<script>" not in response.body
    assert b"onclick" not in response.body

"""What any program may ask of a path of the admin port."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.web.server import Request, Site

from cyclone_sse.daemon.admin_resource import AdminResource, Root, header, host_in


class Greeting(AdminResource):
    def render_GET(self, request: Request) -> bytes:
        return f"hello {header(request, b'name')}".encode()


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """What is logged."""
    events: list[Any] = []
    observer: Any = events.append
    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)


def ask(head: bytes) -> bytes:
    """The whole answer."""
    transport = StringTransport()
    root = Root()
    root.putChild(b"", Greeting())
    channel = Site(root).buildProtocol(None)
    channel.makeConnection(transport)
    channel.dataReceived(head)
    answer: bytes = transport.value()
    channel.connectionLost(None)
    return answer


def test_a_head_has_the_length_of_the_body_and_no_line_in_the_log(logged: list[Any]) -> None:
    answer = ask(b"HEAD / HTTP/1.0\r\nName: you\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"Content-Length: 9\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")
    assert not [event for event in logged if "HEAD" in (event["log_format"] or "")]


def test_what_is_not_there_or_not_allowed_is_refused_as_json() -> None:
    answer = ask(b"GET /other HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 404 ")
    assert b"Content-Type: application/json\r\n" in answer
    assert answer.endswith(b'{"status": "error", "reason": "not found"}')
    assert ask(b"HEAD /other HTTP/1.0\r\n\r\n").endswith(b"Content-Length: 42\r\n\r\n")
    answer = ask(b"POST / HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 405 ")
    assert b"Allow: GET, HEAD\r\n" in answer
    assert answer.endswith(b'{"status": "error", "reason": "method not allowed"}')


def test_a_header_of_any_bytes_is_text() -> None:
    assert ask(b"GET / HTTP/1.0\r\nName: \xff\r\n\r\n").endswith("hello \xff".encode())
    assert ask(b"GET / HTTP/1.0\r\n\r\n").endswith(b"hello None")


def test_the_methods_are_those_that_it_has() -> None:
    greeting = Greeting()
    assert [method for method in (b"GET", b"HEAD", b"POST", b"\xff") if greeting.has_method(method)] == [
        b"GET",
        b"HEAD",
    ]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://a.example:80/x", "a.example"),
        ("//[::1]:80", "::1"),
        ("http://[", ""),
        ("//[a]", ""),
        ("null", ""),
    ],
)
def test_the_host_of_a_url(url: str, host: str) -> None:
    assert host_in(url) == host

"""From a head to cyclone's request object."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cyclone_sse.errors import Refusal
from cyclone_sse.http.request_reader import RequestReader
from cyclone_sse.http.requests import Request, forwarded_address, normal_path

CONNECTION = SimpleNamespace(trusts_proxy=False, _remote_ip="10.0.0.1", transport=object())


def made(target: str, *headers: str, method: str = "GET", connection: Any = CONNECTION) -> Request:
    """A request as the connection makes it."""
    reader = RequestReader(1000)
    reader.feed("\r\n".join([f"{method} {target} HTTP/1.1", "Host: x", *headers, "", ""]).encode())
    head = reader.head()
    assert head is not None
    return Request(connection, head)


def test_the_query_is_read() -> None:
    request = made("/?channels=a&channels=%C3%A4&x=")
    assert request.arguments["channels"] == ["a", "ä"]
    assert (request.path, request.uri) == ("/", "/?channels=a&channels=%C3%A4&x=")


@pytest.mark.parametrize("name", ["access_token", "access%5Ftoken"])
def test_a_token_is_taken_out_of_all_that_is_logged(name: str) -> None:
    request = made(f"/?channels=a&{name}=one&{name}=secret")
    assert request.access_token == "secret"
    for shown in (request.uri, request.query, repr(request)):
        assert "secret" not in shown
        assert "channels=a" in shown
    assert "access_token" not in made("/?a=b").arguments


def test_what_is_logged_holds_no_header() -> None:
    assert "secret" not in repr(made("/", "Cookie: secret", "Authorization: Bearer secret"))


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [
        ("http://a.example/stats", "a.example", "/stats"),
        ("HTTP://a.example", "a.example", "/"),
        ("http://a.example?x=1", "a.example", "/"),
        ("/stats", "x", "/stats"),
        ("/%73tats", "x", "/stats"),
    ],
)
def test_equal_targets_are_equal(target: str, host: str, path: str) -> None:
    request = made(target)
    assert (request.host, request.path) == (host, path)


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "*", 400),
        ("GET", "/#x", 400),
        ("GET", "http:///x", 400),
        ("GET", "http://u@a.example/", 400),
        ("GET", "/%zz", 400),
        ("CONNECT", "a.example:443", 501),
    ],
)
def test_what_is_no_target_of_ours_is_refused(method: str, target: str, status: int) -> None:
    with pytest.raises(Refusal) as refused:
        made(target, method=method)
    assert refused.value.status == status


def test_a_form_adds_to_the_query_and_stands_by_itself() -> None:
    request = made("/publish?channel=a", "Content-Type: application/x-www-form-urlencoded", method="POST")
    request.attach(b"channel=b&key=k")
    assert request.arguments == {"channel": ["a", "b"], "key": ["k"]}
    assert request.form == {"channel": ["b"], "key": ["k"]}


def test_the_peer_s_address_counts_unless_a_proxy_is_trusted() -> None:
    assert made("/", "X-Forwarded-For: 192.0.2.1").remote_ip == "10.0.0.1"
    trusted = SimpleNamespace(**{**vars(CONNECTION), "trusts_proxy": True})
    assert made("/", "X-Forwarded-For: 6.6.6.6, 192.0.2.1", connection=trusted).remote_ip == "192.0.2.1"
    assert made("/", "X-Forwarded-For: unknown", connection=trusted).remote_ip == "10.0.0.1"


def test_a_forwarded_address_is_one() -> None:
    assert forwarded_address(made("/", "X-Forwarded-For: ::1").headers) == "::1"
    assert forwarded_address(made("/").headers) is None


def test_what_must_stay_encoded_stays() -> None:
    assert normal_path("/%2F%41%7e%00") == "/%2FA~%00"

"""From what was read to cyclone's request object, and to the handler that it is for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from cyclone.web import Application, RequestHandler

from cyclone_sse.errors import Refusal
from cyclone_sse.handlers import PublishHandler, StatsHandler
from cyclone_sse.http.forwarded import Proxies
from cyclone_sse.http.request_reader import RequestReader
from cyclone_sse.http.requests import Request, handler_for, takes_body

CONNECTION = SimpleNamespace(
    server=SimpleNamespace(proxies=Proxies(False)), _remote_ip="10.0.0.1", transport=object()
)


def made(
    target: str, *headers: str, method: str = "GET", connection: Any = CONNECTION, body: bytes = b""
) -> Request:
    """A request as the connection makes it."""
    reader = RequestReader(1000)
    length = [f"Content-Length: {len(body)}"]
    lines = [f"{method} {target} HTTP/1.1", "Host: x", *headers, *length, "", ""]
    reader.buffer += "\r\n".join(lines).encode() + body
    found = reader.pop_request(lambda head: True)
    assert found is not None
    return Request(connection, *found)


def test_the_query_is_read() -> None:
    request = made("/?channels=a&channels=%C3%A4&x=")
    assert request.arguments["channels"] == ["a", "ä"]
    assert (request.path, request.uri) == ("/", "/?channels=a&channels=%C3%A4&x=")


def test_headers_are_changed_for_one_request_only() -> None:
    for _ in range(4):  # the reader remembers what has come twice
        request = made("/", "A: b")
        assert request.headers["A"] == "b"
        request.headers["A"] = "c"


def test_parameters_are_changed_for_one_request_only() -> None:
    for _ in range(4):  # the reader remembers what has come twice
        request = made("/?channels=a&channels=b&fields=channel")
        assert request.parameters == {"channels": ["a", "b"], "fields": ["channel"]}
        request.arguments["channels"].append("c")
        del request.arguments["fields"]


def test_a_malformed_query_is_refused_each_time() -> None:
    for _ in range(4):
        with pytest.raises(Refusal, match="UTF-8"):
            made("/?channels=%FF")


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


def test_a_form_adds_to_the_query_and_stands_by_itself() -> None:
    form = "Content-Type: application/x-www-form-urlencoded"
    request = made("/publish?channel=a", form, method="POST", body=b"channel=b&key=k")
    assert request.arguments == {"channel": ["a", "b"], "key": ["k"]}
    assert request.form == {"channel": ["b"], "key": ["k"]}


def test_the_peer_s_address_counts_unless_a_proxy_is_trusted() -> None:
    assert made("/", "X-Forwarded-For: 192.0.2.1").remote_ip == "10.0.0.1"
    trusted = SimpleNamespace(**{**vars(CONNECTION), "server": SimpleNamespace(proxies=Proxies(True))})
    assert made("/", "X-Forwarded-For: 6.6.6.6, 192.0.2.1", connection=trusted).remote_ip == "192.0.2.1"
    assert made("/", "X-Forwarded-For: unknown", connection=trusted).remote_ip == "10.0.0.1"


def test_host_and_scheme_of_the_client_s_url() -> None:
    headers = ["X-Forwarded-Host: www.example", "X-Forwarded-Proto: https"]
    request = made("/", *headers)
    assert (request.public_host, request.public_scheme) == ("x", "http")
    trusted = SimpleNamespace(**{**vars(CONNECTION), "server": SimpleNamespace(proxies=Proxies(True))})
    request = made("/", *headers, connection=trusted)
    assert (request.public_host, request.public_scheme) == ("www.example", "https")


def test_a_malformed_form_is_refused_when_it_is_asked_for() -> None:
    request = made("/", "Content-Type: application/x-www-form-urlencoded", method="POST", body=b"a=%ff")
    for field in ("form", "arguments"):
        with pytest.raises(Refusal):
            getattr(request, field)


class Custom(RequestHandler):  # type: ignore[misc]
    pass


APPLICATION = Application([(r"/publish", PublishHandler), (r"/stats", StatsHandler), (r"/mine", Custom)])


def test_a_path_has_its_handler_or_none() -> None:
    assert handler_for(APPLICATION, made("/stats")) is StatsHandler
    assert handler_for(APPLICATION, made("/statistics")) is None


@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        ("POST", "/publish", True),
        ("GET", "/publish", False),
        ("POST", "/stats", False),
        ("POST", "/nowhere", False),
        ("PUT", "/mine", True),
    ],
)
def test_a_body_is_read_only_where_it_is_wanted(method: str, path: str, wanted: bool) -> None:
    assert takes_body(APPLICATION, made(path, method=method)) is wanted

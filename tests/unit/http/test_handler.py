"""What all handlers share: refusals as JSON, CORS, what becomes of the connection."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest
from cyclone.web import HTTPError
from twisted.internet.defer import Deferred, fail

from cyclone_sse.errors import Refusal
from cyclone_sse.http.handler import JsonHandler
from tests.unit.http.peer import MemoryServer, Peer, Response, parse

PREFLIGHT = ("Origin: https://a.example", "Access-Control-Request-Method: GET")


class Raising(JsonHandler):
    """Fails in the chosen way."""

    error: ClassVar[Any] = None

    def get(self) -> Any:
        if isinstance(self.error, Refusal):
            raise self.error
        return fail(self.error)


class Marking(JsonHandler):
    """Answers with what it has been told to change."""

    change: ClassVar[Any] = None

    def get(self) -> None:
        type(self).change(self)
        self.finish("{}")


class Waiting(JsonHandler):
    """Answers later, and is told when the request is over."""

    later: ClassVar[Deferred[None]]
    over: ClassVar[list[object]]

    def get(self) -> Deferred[None]:
        return self.later

    def on_connection_close(self, *args: object, **kwargs: object) -> None:
        self.over.append(self)


def peer(**settings: Any) -> Peer:
    server = MemoryServer(settings)
    server.app.add_handlers(".*$", [(r"/raising", Raising), (r"/marking", Marking), (r"/waiting", Waiting)])
    return Peer(server=server)


def ask(method: str, target: str, *headers: str, client: Peer | None = None) -> Response:
    """The answer to one request."""
    lines = [f"{method} {target} HTTP/1.1", "Host: x", *headers, "", ""]
    (response,) = parse((client or peer()).send("\r\n".join(lines).encode()))
    return response


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Refusal(403, "not for you", {"Retry-After": "3"}), 403, "not for you"),
        (HTTPError(402), 402, "Payment Required"),
        (ZeroDivisionError(), 500, "Internal Server Error"),
    ],
)
def test_what_goes_wrong_is_told_as_json(
    monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, reason: str, failures: list[Any]
) -> None:
    monkeypatch.setattr(Raising, "error", error)
    client = peer()
    response = ask("GET", "/raising", client=client)
    assert response.status == status
    assert json.loads(response.body) == {"status": "error", "reason": reason}
    assert response.headers["cache-control"] == "no-store"
    if isinstance(error, Refusal):
        assert response.headers["retry-after"] == "3"
    assert client.connections.refusals[status] == 1


def test_who_must_say_who_he_is_is_told_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Raising, "error", Refusal(401, "who are you?"))
    assert ask("GET", "/raising").headers["www-authenticate"].startswith("Bearer")


def test_what_leads_nowhere_is_404_whatever_the_method() -> None:
    assert [ask(method, "/nowhere").status for method in ("GET", "DELETE", "OPTIONS")] == [404] * 3


def test_a_method_that_is_not_allowed_is_told_which_are() -> None:
    response = ask("DELETE", "/stats")
    assert (response.status, response.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert b"Method Not Allowed: use GET, HEAD, OPTIONS" in response.body


def test_only_a_preflight_gets_the_headers_of_one() -> None:
    plain, asked = ask("OPTIONS", "/stats"), ask("OPTIONS", "/stats", *PREFLIGHT)
    assert plain.status == asked.status == 204
    name = "access-control-allow-methods"
    assert (name in plain.headers, name in asked.headers) == (False, True)
    refused = ask("OPTIONS", "/stats", *PREFLIGHT, client=peer(**{"cors-origin": ("https://b.example",)}))
    assert name not in refused.headers


def test_the_connection_stays_as_the_client_wants_it() -> None:
    client = peer()
    assert "connection" not in ask("GET", "/stats", client=client).headers
    assert not client.gone
    assert ask("GET", "/stats", "Connection: close").headers["connection"] == "close"


@pytest.mark.parametrize(
    ("version", "sent", "told"),
    [
        ("1.1", "", None),
        ("1.1", "Connection: close", "close"),
        ("1.0", "", "close"),
        ("1.0", "Connection: keep-alive", "keep-alive"),
    ],
)
def test_all_answers_have_the_same_fields_whether_or_not_their_head_is_shared(
    version: str, sent: str, told: str | None
) -> None:
    lines = [f"GET /marking HTTP/{version}", "Host: x", "Origin: https://a.example", *filter(None, [sent])]

    def answered(change: Any) -> Response:
        Marking.change = change
        client = peer(**{"cors-origin": ("https://a.example",)})
        (response,) = parse(client.send("\r\n".join([*lines, "", ""]).encode()))
        del response.headers["date"]
        return response

    shared = answered(lambda handler: None)
    assert shared.headers.get("connection") == told
    own = answered(lambda handler: handler.set_header("X-Mine", "1"))
    assert own.headers.pop("x-mine") == "1"
    assert own == shared


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda handler: handler.set_status(201, "OK"), b"HTTP/1.1 201 OK\r\n"),
        (lambda handler: handler.set_status(200, "Fine"), b"HTTP/1.1 200 Fine\r\n"),
        (lambda handler: handler.add_header("X-Mine", "1"), b"X-Mine: 1\r\n"),
        (lambda handler: handler.set_cookie("mine", "1"), b"Set-Cookie: mine=1"),
        (lambda handler: handler.clear_header("Server"), b""),
    ],
)
def test_a_handler_changes_the_head_of_its_own_answer_only(change: Any, told: bytes) -> None:
    server = peer()
    Marking.change = lambda handler: None
    before = server.send(b"GET /marking HTTP/1.1\r\nHost: x\r\n\r\n")
    Marking.change = change
    changed = server.send(b"GET /marking HTTP/1.1\r\nHost: x\r\n\r\n")[len(before) :]
    assert told in changed
    if not told:
        assert b"Server:" not in changed
    Marking.change = lambda handler: None
    after = server.send(b"GET /marking HTTP/1.1\r\nHost: x\r\n\r\n")[len(before) + len(changed) :]
    assert [line for line in after.split(b"\r\n") if not line.startswith(b"Date")] == [
        line for line in before.split(b"\r\n") if not line.startswith(b"Date")
    ]


class OwnHead(Marking):
    """Makes the head of its answers itself, as cyclone's handlers may."""

    def _generate_headers(self) -> bytes:
        return super()._generate_headers().replace(b"\r\n\r\n", b"\r\nX-Mine: 1\r\n\r\n")


def test_a_handler_that_makes_its_head_itself_is_asked_for_it() -> None:
    server = MemoryServer()
    server.app.add_handlers(".*$", [(r"/own", OwnHead)])
    OwnHead.change = lambda handler: None
    assert ask("GET", "/own", client=Peer(server=server)).headers["x-mine"] == "1"


def test_a_custom_handler_is_told_when_its_request_is_over() -> None:
    Waiting.later, Waiting.over = Deferred(), []
    client = peer()
    client.send(b"GET /waiting HTTP/1.1\r\nHost: x\r\n\r\n")
    assert not Waiting.over
    Waiting.later.callback(None)
    assert client.statuses == [200]
    assert len(Waiting.over) == 1

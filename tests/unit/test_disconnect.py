"""Streams that an operator ends."""

from __future__ import annotations

import json

import pytest

from tests.unit.access.keys import SECRET, token
from tests.unit.http.peer import FORM, JSON, MemoryServer


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (b"channel=a", {"b"}),
        (b"channels[]=a&channel=b", set()),
        (b"user=42", {"a", "b"}),
        (b'{"channel": ["b"]}', {"a"}),
        (b'{"channels": "b", "key": ""}', {"a"}),
    ],
)
def test_disconnect_ends_the_streams_of_a_channel(body: bytes, left: set[str]) -> None:
    server = MemoryServer()
    clients = {channel: server.connect("GET", f"/?channels={channel}") for channel in "ab"}
    kind = JSON if body.startswith(b"{") else FORM
    status, _, content = server.request("POST", "/disconnect", kind, body=body)
    assert status == 200
    assert json.loads(content) == {"status": "ok", "streams": 2 - len(left)}
    assert {channel for channel, client in clients.items() if not client.gone} == left


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (FORM, b""),
        (FORM, b"channel=&user="),
        (FORM, b"channel=a&user=42"),
        (FORM, b"channel=" + b"x" * 256),
        (JSON, b"[]"),
        (JSON, b"{}"),
        (JSON, b'[{"user": "42"}]'),
        (JSON, b'{"user": 42}'),
        (JSON, b'{"user": []}'),
        (JSON, b'{"user": ["42"]}'),
        (JSON, b'{"usr": "42"}'),
        (JSON, b'{"user": ["42", "43"]}'),
        (FORM, b"user=42&user=43"),
    ],
)
def test_disconnect_wants_to_know_whose_streams(kind: str, body: bytes) -> None:
    status, _, content = MemoryServer().request("POST", "/disconnect", kind, body=body)
    assert status == 400
    assert json.loads(content)["reason"]


@pytest.mark.parametrize("path", ["/disconnect", "/clear", "/publish"])
@pytest.mark.parametrize("body", [b'{"channel": "a"}', b'[{"channel": "a"}]'])
def test_json_that_is_sent_as_a_form_is_recognised(path: str, body: bytes) -> None:
    status, _, content = MemoryServer().request("POST", path, FORM, body=body)
    assert status == 400
    assert "send it with Content-Type: application/json" in json.loads(content)["reason"]


def test_disconnect_wants_the_key() -> None:
    server = MemoryServer({"http-secret": "secret"})
    assert server.request("POST", "/disconnect", FORM, body=b"user=42")[0] == 401
    assert server.request("POST", "/disconnect?key=secret", FORM, body=b"user=42")[0] == 401
    assert server.request("POST", "/disconnect", FORM, body=b"user=42&key=secret")[0] == 200


def test_only_a_token_for_everything_ends_streams() -> None:
    server = MemoryServer({"jwt-secret": SECRET})
    client = server.connect("GET", f"/?channels=a&access_token={token(sub='42', subscribe=['a'])}")
    for claim, status in ((["a", "a*"], 403), (["*"], 200)):
        bearer = f"Authorization: Bearer {token(publish=claim)}"
        assert server.request("POST", "/disconnect", FORM, bearer, body=b"user=42")[0] == status
    assert client.gone

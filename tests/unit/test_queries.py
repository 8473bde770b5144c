"""What a page asks about channels: who may ask, and what the answer is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from cyclone_sse.delivery.publication import publication
from cyclone_sse.handlers import BroadcastHandler
from cyclone_sse.queries import STATE_BYTES_AT_ONCE
from tests.harness.eventstream import Parser
from tests.unit.access.fakes import FakeTokens
from tests.unit.access.keys import SECRET, token
from tests.unit.http.peer import JSON, MemoryServer


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "channels.toml"
    path.write_text('["room-*"]\npresence = true\n')
    return {"channels": str(path)}


def test_the_members_of_a_channel(settings: dict[str, Any]) -> None:
    server = MemoryServer(settings)
    server.connect("GET", "/?channels=room-1")
    status, head, body = server.request("GET", "/presence?channel=room-1")
    assert (status, json.loads(body)) == (200, {"channel": "room-1", "members": {}, "anonymous": 1})
    assert "Cache-Control: private, no-store" in head


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [
        ("", 400, "name at least one"),
        ("channel=room-1&channel=room-2", 400, "one channel"),
        ("channel=news", 404, "--channels"),
    ],
)
def test_a_mistake_has_its_reason(settings: dict[str, Any], query: str, status: int, word: str) -> None:
    got, _, body = MemoryServer(settings).request("GET", f"/presence?{query}")
    assert (got, word in json.loads(body)["reason"]) == (status, True)


def test_without_kinds_of_channel_there_is_no_such_page() -> None:
    assert MemoryServer().request("GET", "/presence?channel=room-1")[0] == 404


def test_who_may_subscribe_may_ask_and_so_may_the_key(settings: dict[str, Any]) -> None:
    server = MemoryServer({**settings, "jwt-secret": SECRET, "http-secret": "key"})
    target = "/presence?channel=room-1"
    allowed, other = token(subscribe=["room-1"]), token(subscribe=["room-2"])
    bearers = {None: 401, "key": 200, "wrong": 401, allowed: 200, other: 403}
    for bearer, status in bearers.items():
        headers = [] if bearer is None else [f"Authorization: Bearer {bearer}"]
        assert server.request("GET", target, *headers)[0] == status, bearer


def test_the_key_of_a_publisher_s_token_is_waited_for(settings: dict[str, Any]) -> None:
    server = MemoryServer({**settings, "jwt-secret": SECRET})
    rules = server.app.rules
    assert rules._tokens is not None
    tokens = FakeTokens(rules._tokens)
    rules._tokens, rules.may_miss_keys = tokens, True  # type: ignore[assignment]
    bearer = f"Authorization: Bearer {token(publish=['*'])}"
    wire = server.connect("GET", "/presence?channel=room-1", bearer)
    assert wire.value() == b""
    waiting, tokens.waiting = tokens.waiting, None
    assert waiting is not None
    waiting.callback(None)
    assert wire.value().startswith(b"HTTP/1.1 200 ")


def test_a_stream_with_presence_has_the_user_of_its_token(settings: dict[str, Any]) -> None:
    server = MemoryServer({**settings, "jwt-secret": SECRET})
    bearer = f"Authorization: Bearer {token(subscribe=['room-1'], sub='42')}"
    body = server.request("GET", "/?channels=room-1&presence=1", bearer)[2]
    assert b'event: sse-presence\ndata: {"channel":"room-1","members":{"42":{}},"anonymous":0}\n\n' in body
    assert b"sse-presence" not in server.request("GET", "/?channels=room-1", bearer)[2]


def test_a_custom_handler_says_which_user_it_is(settings: dict[str, Any]) -> None:
    class Handler(BroadcastHandler):
        def authorize(self) -> bool:
            self.user = 7  # type: ignore[assignment]  # as an application's database has it
            self.info = {"name": "Ann"}
            return True

    server = MemoryServer(settings, subscribe=Handler)
    body = server.request("GET", "/?channels=room-1&presence=1")[2]
    assert b'"members":{"7":{"name":"Ann"}}' in body


def test_an_empty_name_is_no_user(settings: dict[str, Any]) -> None:
    class Handler(BroadcastHandler):
        user = ""

    server = MemoryServer(settings, subscribe=Handler)
    body = server.request("GET", "/?channels=room-1&presence=1")[2]
    assert b'"members":{},"anonymous":1}' in body


def test_the_info_of_a_token_is_shown(settings: dict[str, Any]) -> None:
    server = MemoryServer({**settings, "jwt-secret": SECRET})
    bearer = f"Authorization: Bearer {token(subscribe=['room-1'], sub='42', info={'name': 'Ann'})}"
    body = server.request("GET", "/?channels=room-1&presence=1", bearer)[2]
    assert b'"members":{"42":{"name":"Ann"}}' in body


def test_a_key_of_a_file_may_ask(settings: dict[str, Any], tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("one\ntwo\n")
    server = MemoryServer({**settings, "jwt-secret": SECRET, "http-secret-file": str(keys)})
    for key, status in {"one": 200, "two": 200, "three": 401}.items():
        bearer = f"Authorization: Bearer {key}"
        assert server.request("GET", "/presence?channel=room-1", bearer)[0] == status


def publish(server: MemoryServer, bearer: str, *messages: str) -> tuple[int, str]:
    """Publish a batch to room-1; status and head of the answer."""
    body = json.dumps([{"channel": "room-1", "message": message} for message in messages]).encode()
    headers = ["Content-Type: application/json", f"Authorization: Bearer {bearer}"]
    return server.request("POST", "/publish", *headers, body=body)[:2]


def test_the_rules_of_a_kind_hold_for_publishers(tmp_path: Path) -> None:
    path = tmp_path / "channels.toml"
    path.write_text('["room-*"]\nmax_message = 5\npublish_rate = 2\n')
    server = MemoryServer({"channels": str(path), "jwt-secret": SECRET, "http-secret": "key"})
    user = token(sub="42", publish=["*"])
    assert publish(server, user, "123456")[0] == 413
    assert publish(server, "key", "123456")[0] == 413
    status, head = publish(server, user, *"12345")
    assert (status, "Retry-After: 2" in head) == (429, True), "more than a burst"
    assert publish(server, user, *"1234")[0] == 200
    status, head = publish(server, user, "5")
    assert (status, "Retry-After: 1" in head) == (429, True)
    assert publish(server, token(sub="43", publish=["*"]), "1")[0] == 200
    assert publish(server, "key", *"12345678")[0] == 200
    server.clock.advance(0.5)
    assert publish(server, user, "5")[0] == 200
    unnamed = token(publish=["*"])
    assert publish(server, unnamed, *"1234")[0] == 200
    assert publish(server, unnamed, "5")[0] == 429, (
        "the key alone is exempt, not each token that is for everything"
    )


def test_a_second_attempt_with_the_same_key_does_not_count_as_an_event(tmp_path: Path) -> None:
    path = tmp_path / "channels.toml"
    path.write_text('["room-*"]\npublish_rate = 1\n')
    server = MemoryServer({"channels": str(path), "jwt-secret": SECRET, "idempotency-ttl": 10.0})
    headers = [JSON, f"Authorization: Bearer {token(sub='42', publish=['*'])}"]

    def attempt(key: str) -> int:
        body = b'{"channel": "room-1", "message": "x"}'
        return server.request("POST", "/publish", *headers, f"Idempotency-Key: {key}", body=body)[0]

    assert [attempt(key) for key in ("1", "1", "2", "1", "2")] == [200] * 5
    assert [attempt(key) for key in ("3", "2", "3")] == [429, 200, 429]
    server.clock.advance(11.0)
    assert [attempt(key) for key in ("1", "2", "3")] == [200, 200, 429], "these are forgotten, and publish"


def test_the_states_of_channels() -> None:
    server = MemoryServer()
    for channel, event in (("a", "greeting"), ("b", None)):
        server.broker.publish_all([publication(channel, f"state {channel}", event, keep=True)])
    status, head, body = server.request("GET", "/state?channel=a&channels=b&channel=none")
    answer = json.loads(body)
    assert (status, sorted(answer)) == (200, ["a", "b"])
    assert (answer["a"]["event"], answer["a"]["data"]) == ("greeting", "state a")
    assert answer["b"]["event"] is None
    assert "Cache-Control: private, no-store" in head
    stream = server.connect("GET", f"/?channels=a&state=1&lastEventId={answer['b']['id']}")
    assert b"data:" not in stream.value(), "the id of the last state is a position"


def test_states_are_not_written_for_a_client_that_has_left() -> None:
    server = MemoryServer()
    for number in range(4):
        server.broker.publish_all([publication(f"c{number}", "x" * STATE_BYTES_AT_ONCE, keep=True)])
    wire = server.connect("GET", "/state?" + "&".join(f"channel=c{n}" for n in range(4)), turn=False)
    wire.connection.connectionLost(Failure(ConnectionDone()))
    server.clock.turn()
    server.clock.turn()
    assert not len(server.connections.answers)


def test_a_stream_with_state_starts_with_the_states() -> None:
    server = MemoryServer()
    server.broker.publish_all([publication("a", "state", keep=True)])
    stream = server.connect("GET", "/?channels=a&state=1", "User-Agent: Mozilla/5.0")
    body = stream.value().partition(b"\r\n\r\n")[2]
    (event,) = (parser := Parser()).feed(body)
    assert event.data == "state"
    assert body.count(b"id: ") == 2, "the state's, then the position: none before them"
    assert parser.last_id


def test_a_stream_of_patterns_has_no_states() -> None:
    server = MemoryServer({"patterns": True})
    status, _, body = server.request("GET", "/?channels=a&channels=b*&state=1")
    assert (status, json.loads(body)["reason"]) == (
        400,
        "a pattern has no state: leave out state, or name the channels",
    )
    assert server.request("GET", "/?channels=a&channels=b*&state=0")[0] == 200
    assert MemoryServer().request("GET", "/?channels=b*&state=1")[0] == 200, "there it is a name like others"


def _post(server: MemoryServer, target: str, form: str, *headers: str) -> tuple[int, str, bytes]:
    fields = ("Content-Type: application/x-www-form-urlencoded",)
    return server.request("POST", target, *fields, *headers, body=form.encode())


def test_only_an_operator_clears_channels() -> None:
    server = MemoryServer({"jwt-secret": SECRET, "http-secret": "key"})
    server.broker.publish_all([publication("a", "state", keep=True)])
    bearers = {token(publish=["a"]): 403, "wrong": 401, token(publish=["*"]): 200, "key": 200}
    for bearer, status in bearers.items():
        got, _, body = _post(server, "/clear", "channel=a", f"Authorization: Bearer {bearer}")
        assert got == status, body
        assert (server.broker.hub.states.get("a") is None) == (status == 200) or bearer == "key"
    for fields in ("user=a", "channel=" + "x" * 256):
        assert _post(server, "/clear", fields, "Authorization: Bearer key")[0] == 400
    json_fields = b'{"channel": "a", "user": "u"}'
    got, _, body = server.request("POST", "/clear", JSON, "Authorization: Bearer key", body=json_fields)
    assert (got, json.loads(body)["reason"]) == (400, "unknown field 'user'")


def test_a_state_for_which_there_is_no_room_is_507() -> None:
    server = MemoryServer({"state-bytes": 1000})
    status, _, body = _post(server, "/publish", f"channel=a&message={'x' * 2000}&keep=1")
    assert (status, "--state-bytes" in json.loads(body)["reason"]) == (507, True)


def test_many_states_are_written_in_slices_and_read_in_one_moment() -> None:
    server = MemoryServer()
    hub = server.broker.hub
    names = [f"room-{number}" for number in range(3)]
    for name in names:
        hub.publish(publication(name, "x" * STATE_BYTES_AT_ONCE, keep=True))
    wire = server.connect("GET", f"/state?channel={'&channel='.join(names)}", turn=False)
    hub.publish(publication(names[-1], "new", keep=True))
    turns = 0
    while not wire.value():
        server.clock.turn()
        turns += 1
    assert turns >= 3
    states = json.loads(wire.value().partition(b"\r\n\r\n")[2])
    assert [len(states[name]["data"]) for name in names] == [STATE_BYTES_AT_ONCE] * 3


def test_stats_list_who_listens() -> None:
    server = MemoryServer()
    assert json.loads(server.request("GET", "/stats")[2]) == []
    server.connect("GET", "/?channels=a&channels=b")
    server.connect("GET", "/?channels=b&channels=b")
    _, head, body = server.request("GET", "/stats")
    assert json.loads(body) == [["a", 1], ["b", 2]]
    assert "Content-Type: application/json" in head
    assert server.request("HEAD", "/stats")[2] == b""
    for query, listed in (
        ("channel=a", ["a"]),
        ("channel=a&channel=b&channel=c", ["a", "b"]),
        ("prefix=b", ["b"]),
        ("prefix=b&channels[]=a", ["a", "b"]),
        ("prefix=", ["a", "b"]),
        ("channel=c", []),
    ):
        assert [row[0] for row in json.loads(server.request("GET", f"/stats?{query}")[2])] == listed


def test_stats_of_many_prefixes_are_refused() -> None:
    server = MemoryServer()
    query = "&".join(f"prefix={number}" for number in range(11))
    assert server.request("GET", f"/stats?{query}")[0] == 400
    assert server.request("GET", f"/stats?{query.partition('&')[2]}")[0] == 200


def test_stats_of_very_many_channels_are_made_in_turns() -> None:
    server = MemoryServer({"max-channels": 5000})
    for start in range(0, 5000, 500):
        names = "&".join(f"channels=c{number}" for number in range(start, start + 500))
        server.connect("GET", f"/?{names}")
    asking = server.connect("GET", "/stats", turn=False)
    assert not asking.value()
    server.turn()
    assert len(json.loads(asking.value().partition(b"\r\n\r\n")[2])) == 5000

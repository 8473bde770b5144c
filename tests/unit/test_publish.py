"""What is published, refused and answered."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest

from cyclone_sse.brokers import Broker, BrokerUnavailable, HttpBroker
from tests.harness.eventstream import Parser
from tests.unit.access.keys import SECRET, token
from tests.unit.http.peer import FORM, JSON, LINES, MemoryServer


def test_an_application_that_wants_xsrf_cookies_has_them_checked() -> None:
    server = MemoryServer()
    server.app.settings["xsrf_cookies"] = True
    assert server.publish("a", "x") == 403


def test_a_broker_of_an_application_may_publish_in_a_coroutine() -> None:
    class Own(HttpBroker):
        async def publish_all(self, publications: Any) -> Any:  # type: ignore[override]
            return super().publish_all(publications)

    status, _, body = MemoryServer(broker=Own).request(
        "POST", "/publish", JSON, body=b'{"channel": "a", "message": "x"}'
    )
    assert (status, "id" in json.loads(body)) == (200, True)


MULTIPART = "Content-Type: multipart/form-data; boundary=B"


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (400, FORM, b""),
        (400, FORM, b"channel=a"),
        (400, FORM, b"message=a"),
        (400, FORM, b"channel=&message=a"),
        (400, FORM, b"channel=a&message="),
        (400, FORM, b"channel=a&message=b&event=sse-gap"),
        (400, FORM, b"channel=a&message=b&event=a%0Adata:"),
        (400, FORM, b"channel=a&message=b&retry=soon"),
        (400, FORM, b'{"channel": "a", "message": "b=c"}'),
        (400, JSON, b"{"),
        (400, JSON, b"[" * 100000),
        (400, JSON, b"[1]"),
        (400, JSON, b"[]"),
        (400, JSON, b"1"),
        (400, JSON, b'{"channel": "a"}'),
        (400, JSON, b'{"channel": 1, "message": "a"}'),
        (400, JSON, b'{"channel": ["a", null], "message": "a"}'),
        (400, JSON, b'{"channel": "a", "message": "\\ud800"}'),
        (400, JSON, b'{"channel": "a", "message": "b", "evnet": "c"}'),
        (400, JSON, '{"channel": "a", "message": "é"}'.encode("latin-1")),
        (400, JSON, b'{"channel": "a", "message": NaN}'),
        (400, LINES, b"\n\n"),
        (400, LINES, b'{"channel": "a", "message": "b"}\n[]'),
        (415, "Content-Type: text/plain", b"channel=a&message=b"),
        (415, "Content-Type: application/jsonp", b"{}"),
        (415, "X: y", b"channel=a&message=b"),
        (415, f"{JSON}\r\nContent-Encoding: gzip", b"{}"),
        (200, f"{JSON}\r\nContent-Encoding: Identity", b'{"channel": ["a", "b"], "message": "x"}'),
        (200, JSON.upper(), b'{"channel": ["a", "b"], "message": "x"}'),
        (200, JSON, b'{"channel": "a", "channels": ["b"], "message": {"b": 1}, "event": "c", "retry": 5}'),
        (200, FORM, b"channel=a&channel=b&message=x&other=1"),
        (200, FORM, b"channels%5B%5D=a&channels%5B0%5D=b&channel[]=c&message=x&event=news&retry=1"),
        (
            200,
            MULTIPART,
            b'--B\r\nContent-Disposition: form-data; name="channel"\r\n\r\na\r\n'
            b'--B\r\nContent-Disposition: form-data; name="message"\r\n\r\n x\r\n\r\n--B--\r\n',
        ),
    ],
)
def test_publish_takes_what_is_complete(status: int, kind: str, body: bytes, failures: list[Any]) -> None:
    answer, head, content = MemoryServer().request("POST", "/publish", kind, body=body)
    assert answer == status
    assert "Content-Type: application/json" in head
    if status != 200:
        assert json.loads(content)["reason"]
    elif kind.lower().startswith("content-type: application/json"):
        said = json.loads(content)
        assert (said.pop("status"), said.pop("subscribers")) == ("ok", 0)
        assert said.pop("id")
        assert not said
    else:
        assert content == b'{"status": "ok"}'
    assert not failures


def test_publish_without_a_body_takes_the_query_but_no_key_from_it() -> None:
    assert MemoryServer().request("POST", "/publish?channel=a&message=b")[0] == 200
    server = MemoryServer({"http-secret": "s"})
    assert server.request("POST", "/publish?channel=a&message=b&key=s")[0] == 401
    assert server.request("POST", "/publish?key=s", FORM, body=b"channel=a&message=b")[0] == 401
    assert server.request("POST", "/publish?channel=a", FORM, body=b"message=b&key=s")[0] == 200


@pytest.mark.parametrize(
    ("key", "status"), [("", 401), ("&key=", 401), ("&key=wrong", 401), ("&key=s%C3%A9cret", 200)]
)
def test_publish_wants_the_key(key: str, status: int) -> None:
    server = MemoryServer({"http-secret": "sécret"})
    body = f"channel=a&message=b{key}".encode()
    assert server.request("POST", "/publish", FORM, body=body)[0] == status
    body = json.dumps({"channel": "a", "message": "b", "key": "sécret"}).encode()
    assert server.request("POST", "/publish", JSON, body=body)[0] == 200


@pytest.mark.parametrize("kind", [FORM, JSON, LINES])
def test_the_key_may_come_in_the_header(kind: str) -> None:
    server = MemoryServer({"http-secret": "secret"})
    event = b'{"channel": "a", "message": "b"}'
    body = b"channel=a&message=b" if kind is FORM else event
    assert server.request("POST", "/publish", kind, "Authorization: Bearer secret", body=body)[0] == 200
    status, head, _ = server.request("POST", "/publish", kind, "Authorization: Bearer wrong", body=body)
    assert status == 401
    assert 'WWW-Authenticate: Bearer error="invalid_token"' in head


@pytest.mark.parametrize(
    ("keys", "status"),
    [
        (["secret", "secret"], 200),
        (["secret", None], 401),
        (["wrong", "secret"], 401),
        ([["secret"]] * 2, 401),
    ],
)
def test_each_object_of_a_batch_holds_the_key(keys: list[Any], status: int) -> None:
    events = [{"channel": "a", "message": "b", "key": key} for key in keys]
    for event in events:
        if event["key"] is None:
            del event["key"]
    body = json.dumps(events).encode()
    assert MemoryServer({"http-secret": "secret"}).request("POST", "/publish", JSON, body=body)[0] == status


def test_a_batch_is_delivered_in_its_order() -> None:
    for kind in (JSON, LINES):
        server = MemoryServer()
        client = server.connect("GET", "/?channels=a&channels=b")
        events = [{"channel": "ab"[number % 2], "message": number} for number in range(9)]
        if kind is JSON:
            body = json.dumps(events).encode()
        else:
            body = b"\r\n".join([*(json.dumps(event).encode() for event in events), b""])
        status, _, content = server.request("POST", "/publish", kind, body=body)
        answer = json.loads(content)
        assert (status, answer["status"], answer["subscribers"]) == (200, "ok", 1)
        got = Parser().feed(client.value().partition(b"\r\n\r\n")[2])
        assert [event.data for event in got] == [str(number) for number in range(9)]
        assert [event.id for event in got] == answer["ids"]


@pytest.mark.parametrize("kind", [JSON, LINES])
def test_a_batch_with_one_bad_event_publishes_nothing(kind: str) -> None:
    server = MemoryServer()
    client = server.connect("GET", "/?channels=a")
    events = [{"channel": "a", "message": "x"}] * 2 + [{"channel": "a"}, {}]
    lines = "\n".join(map(json.dumps, events))
    body = (json.dumps(events) if kind is JSON else lines).encode()
    status, _, content = server.request("POST", "/publish", kind, body=body)
    assert status == 400
    assert json.loads(content)["reason"] == "index 2: message is missing or empty"
    if kind is LINES:
        _, _, content = server.request("POST", "/publish", kind, body=body.replace(b'"x"', b'"x', 1))
        assert json.loads(content)["reason"].startswith("index 0: this is not JSON: ")
    assert client.events == []


def test_the_answer_to_json_is_what_a_page_resumes_from() -> None:
    server = MemoryServer()
    for _ in range(2):
        server.connect("GET", "/?channels=a&channels=b")
    event = b'{"channel": ["a", "b"], "message": "first"}'
    answer = json.loads(server.request("POST", "/publish", JSON, body=event)[2])
    assert answer["subscribers"] == 2
    server.publish("a", "second")
    assert server.connect("GET", f"/?channels=a&lastEventId={answer['id']}").events == ["second"]


def test_type_and_retry_go_out() -> None:
    server = MemoryServer()
    client = server.connect("GET", "/?channels=a")
    body = b'{"channel": "a", "message": {"title": "Hello"}, "event": "news", "retry": 1500}'
    server.request("POST", "/publish", JSON, body=body)
    assert client.value().endswith(b'\nevent: news\nretry: 1500\ndata: {"title":"Hello"}\n\n')


def test_publish_tells_when_the_broker_is_away_but_not_where_it_is() -> None:
    class Away(HttpBroker):
        def publish(self, channels: object, message: object) -> Any:
            raise BrokerUnavailable("no answer from redis-7.internal")

        def control(self, order: object) -> Any:
            raise BrokerUnavailable("no answer from redis-7.internal")

    for path in ("/publish", "/disconnect"):
        status, head, content = MemoryServer(broker=Away).request(
            "POST", path, FORM, body=b"channel=a&message=b"
        )
        assert status == 503
        assert "Retry-After: " in head
        assert json.loads(content)["reason"] == "the broker is away"
        assert json.loads(content)["published"] == "unknown"


def test_one_name_given_as_text_is_one_channel() -> None:
    """A well-known example application publishes so. Read letter by letter, it would reach no client."""
    server = MemoryServer()
    client = server.connect("GET", "/?channels=chat&channels=c")
    server.broker.publish("chat", "hello")
    server.turn()
    assert client.events == ["hello"]
    server.broker.publish("other", "for no client")
    server.turn()
    assert client.events == ["hello"]


def test_a_broker_without_a_place_for_types_refuses_them_by_name() -> None:
    class Plain(Broker):
        lingers = False
        sent: ClassVar[list[Any]] = []

        def __init__(self, settings: Any, reactor: Any) -> None:
            super().__init__(settings, "plain", reactor)

        def publish(self, channels: Any, message: Any) -> Any:
            self.sent.append((channels, message))

    server = MemoryServer(broker=Plain)
    event = {"channel": "a", "message": "b"}
    status, _, content = server.request(
        "POST", "/publish", JSON, body=json.dumps([event, {**event, "event": "news"}]).encode()
    )
    assert status == 400
    assert "event" in json.loads(content)["reason"]
    assert Plain.sent == []
    status, _, content = server.request("POST", "/publish", JSON, body=json.dumps([event, event]).encode())
    assert (status, Plain.sent) == (200, [(["a"], "b")] * 2)
    assert json.loads(content) == {"status": "ok", "subscribers": 0}


def test_a_page_of_another_site_may_not_publish() -> None:
    server = MemoryServer()
    form = b"channel=a&message=b"
    for path in ("/publish", "/disconnect"):
        status, _, content = server.request("POST", path, FORM, "Origin: https://evil.example", body=form)
        assert status == 403
        assert "--cors-origin" in json.loads(content)["reason"]
        assert server.request("POST", path, FORM, "Origin: http://x", body=form)[0] == 403, "a name"
        own = server.connect("POST", path, FORM, "Origin: http://127.0.0.1", body=form, host="127.0.0.1")
        assert b" 200 OK" in own.value()


def test_a_token_says_where_its_bearer_may_publish() -> None:
    server = MemoryServer({"jwt-secret": SECRET})
    bearer = f"Authorization: Bearer {token(publish=['a', 'b-*'])}"
    assert server.request("POST", "/publish", FORM, bearer, body=b"channel=b-1&message=x")[0] == 200
    status, head, content = server.request("POST", "/publish", FORM, bearer, body=b"channel=c&message=x")
    assert status == 403
    assert "'c'" in json.loads(content)["reason"]
    assert "insufficient_scope" in head
    events = json.dumps([{"channel": name, "message": "x"} for name in "ac"]).encode()
    assert server.request("POST", "/publish", JSON, bearer, body=events)[0] == 403
    assert server.request("POST", "/publish", FORM, body=b"channel=a&message=x")[0] == 401


@pytest.mark.parametrize(
    ("headers", "key", "reason", "reason_with_tokens"),
    [
        ([], b"", "the key is missing", "the key is missing"),
        ([], b"&key=x", "wrong key", "wrong key"),
        (["Authorization: Bearer x"], b"", "wrong key", "neither a key nor a valid token"),
        ([f"Authorization: Bearer {token(exp=1)}"], b"", "wrong key", "the token has expired"),
    ],
)
def test_a_missing_key_and_a_wrong_one_are_called_so(
    headers: list[str], key: bytes, reason: str, reason_with_tokens: str
) -> None:
    for settings, said in (({}, reason), ({"jwt-secret": SECRET}, reason_with_tokens)):
        server = MemoryServer({"http-secret": "secret", **settings})
        body = b"channel=a&message=b" + key
        status, _, content = server.request("POST", "/publish", FORM, *headers, body=body)
        assert status == 401
        assert said in json.loads(content)["reason"]


def test_how_long_a_publication_took_is_counted_whatever_becomes_of_it() -> None:
    server = MemoryServer({"http-secret": "secret"})
    server.request("POST", "/publish", FORM, body=b"channel=a&message=b&key=secret")
    server.request("POST", "/publish", FORM, body=b"channel=a&message=b")
    assert sum(server.broker.hub.counters.publish_seconds.counts) == 2


def test_the_same_idempotency_key_publishes_once() -> None:
    site = MemoryServer()
    key = "Idempotency-Key: order-7"
    one = b'{"channel": "a", "message": "x"}'
    answers = [json.loads(site.request("POST", "/publish", JSON, key, body=one)[2]) for _ in range(3)]
    assert {answer["id"] for answer in answers} == {answers[0]["id"]}
    batch = b'[{"channel": "a", "message": "x"}, {"channel": "a", "message": "y", "idempotency_key": "own"}]'
    first, again = (
        json.loads(site.request("POST", "/publish", JSON, "Idempotency-Key: other", body=batch)[2])
        for _ in range(2)
    )
    assert first["ids"] == again["ids"]
    assert len({answers[0]["id"], *first["ids"]}) == 3
    own = b'{"channel": "a", "message": "z", "idempotency_key": "own"}'
    assert json.loads(site.request("POST", "/publish", JSON, body=own)[2])["id"] == first["ids"][1]


def test_a_form_may_have_an_idempotency_key() -> None:
    site = MemoryServer()
    for message in (b"first", b"second"):
        body = b"channel=a&idempotency_key=order-7&message=" + message
        assert site.request("POST", "/publish", FORM, body=body)[::2] == (200, b'{"status": "ok"}')
    assert site.broker.hub.counters.events == 1
    headers = FORM, "Idempotency-Key: other"  # the field takes precedence
    assert site.request("POST", "/publish", *headers, body=body)[0] == 200
    assert site.broker.hub.counters.events == 1
    assert site.request("POST", "/publish", FORM, body=b"channel=a&message=x&idempotency_key=a%201")[0] == 400


@pytest.mark.parametrize("key", ["two words", "x" * 201, "\xe9", "a 1", ""])
def test_an_idempotency_key_is_visible_ascii(key: str) -> None:
    body = b'{"channel": "a", "message": "x"}'
    status, _, answer = MemoryServer().request("POST", "/publish", JSON, f"Idempotency-Key: {key}", body=body)
    assert (status, b"Idempotency-Key" in answer) == (400, True)
    body = json.dumps({"channel": "a", "message": "x", "idempotency_key": key}).encode()
    assert MemoryServer().request("POST", "/publish", JSON, body=body)[0] == 400

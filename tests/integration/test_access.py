"""Private channels in the real daemon: tokens that end, an application that is asked, /disconnect."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.harness.asked import AskedApplication, Question, Reply
from tests.harness.clients import Subscriber, publish, request, stats
from tests.harness.patience import PATIENCE
from tests.harness.process import free_port, until
from tests.harness.servers import SseServer
from tests.integration.conftest import Serve
from tests.unit.access.keys import SECRET, jwk, pem, private, token

POLL = {"X-Requested-With": "XMLHttpRequest"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def subscribe(server: SseServer, *channels: str, **headers: str) -> int:
    """The status that a client with these headers gets. Leaves at once."""
    client = Subscriber(server.url, channels, headers=headers).wait_open()
    client.close()
    return client.status


@pytest.mark.parametrize("headers", [{}, POLL])
def test_a_stream_ends_with_its_token(serve: Serve, headers: dict[str, str]) -> None:
    server = serve(f"--jwt-secret={SECRET}", "--log-level=debug", "--http-secret=k")
    given = token(sub="42", subscribe=["user-*"], exp=int(time.time()) + 3)
    with closing(Subscriber(server.url, "user-42", query={"access_token": given}, headers=headers)) as client:
        until(lambda: stats(server.url), "the client")
        assert client.event().type == "sse-expired"
        client.wait_end()
    until(lambda: stats(server.url) == {}, "its end")
    old = token(subscribe=["user-*"], exp=int(time.time()) - 60)
    answer = request("GET", f"{server.url}/?channels=user-42&access_token={old}")
    assert (answer.status, answer.json["reason"]) == (401, "the token has expired")
    assert given not in server.log
    assert old not in server.log


def test_keys_are_read_again_at_sighup(serve: Serve, tmp_path: Path) -> None:
    keys = tmp_path / "jwks.json"
    keys.write_text(json.dumps({"keys": [jwk("p256", kid="1")]}))
    server = serve(f"--jwt-keys={keys}")
    old, new = (
        token(private(kind), "ES256", {"kid": kid}, subscribe=["*"])
        for kind, kid in (("p256", "1"), ("p256", "2"))
    )
    with Subscriber(server.url, "a", headers={"Authorization": f"Bearer {old}"}) as client:
        assert client.status == 200
        assert subscribe(server, "a", Authorization=f"Bearer {new}") == 401
        keys.write_text(json.dumps({"keys": [jwk("p256", kid="2")]}))
        server.send_signal(signal.SIGHUP)
        until(lambda: subscribe(server, "a", Authorization=f"Bearer {new}") == 200, "the new key")
        assert subscribe(server, "a", Authorization=f"Bearer {old}") == 401
        keys.write_text("{")
        server.send_signal(signal.SIGHUP)
        until(lambda: f"--jwt-keys={keys}" in server.log, "a line about the file")
        assert subscribe(server, "a", Authorization=f"Bearer {new}") == 200
        assert server.running
        until(lambda: stats(server.url) == {"a": 1}, "only the stream that is open, and it stays")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--jwt-secret=" + "x" * 31, "at least 32 bytes"),
        ("--jwt-keys=missing.pem", "No such file"),
        ("--auth-url=ftp://x", "expected a URL"),
    ],
)
def test_what_will_not_do_is_one_line_at_start(tmp_path: Path, option: str, words: str) -> None:
    server = SseServer(tmp_path, option)
    with pytest.raises(AssertionError, match="ended at start"):
        server.start()
    assert words in server.log
    assert "Traceback" not in server.log
    assert "x" * 31 not in server.log.replace(option, "")


PUBLISH, SUBSCRIBE = "any client may publish", "any client may subscribe"


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ([], {PUBLISH, SUBSCRIBE}),
        (["--http-secret=k"], set()),
        (["--auth-url=http://127.0.0.1:1/"], set()),
        (["--auth-url=http://127.0.0.1:1/", "--http-publish=1"], {PUBLISH}),
    ],
)
def test_each_of_the_two_that_is_open_has_its_warning(
    serve: Serve, options: list[str], warned: set[str]
) -> None:
    log = serve(*options).log
    assert {line: log.count(line) for line in (PUBLISH, SUBSCRIBE)} == {
        line: int(line in warned) for line in (PUBLISH, SUBSCRIBE)
    }


def test_publishing_to_private_channels_needs_a_key_or_a_word(serve: Serve) -> None:
    private = "--auth-url=http://127.0.0.1:1/"
    body = urlencode({"channel": "user-42", "message": "x"})
    closed, opened = serve(private), serve(private, "--http-publish=1")
    for path in ("publish", "disconnect"):
        answer = request("POST", f"{closed.url}/{path}", body, FORM)
        assert answer.status == 403
        assert "--http-secret" in answer.json["reason"]
    assert request("POST", f"{opened.url}/publish", body, FORM).status == 200


def members(question: Question) -> Reply:
    """Ann is user 42 and in room 1; other clients have to log in."""
    if "member=ann" not in question.headers.get("Cookie", ""):
        return Reply(401, b"log in", {"WWW-Authenticate": 'Session realm="test"'})
    hers = {"user-42", "room-1"}
    if not hers & set(question.channels):
        return Reply(403)
    return Reply(200, json.dumps({"channels": sorted(hers), "user": "42", "expires": 3600}).encode())


def test_the_application_decides(serve: Serve) -> None:
    with AskedApplication(members) as application:
        server = serve(f"--auth-url={application.url}", "--public=front,news-*", "--http-secret=k")
        assert subscribe(server, "front", "news-de") == 200
        assert application.questions == []
        answer = request("GET", f"{server.url}/?channels=user-42", headers={"Origin": "https://x.example"})
        assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Session realm="test"')
        assert answer.headers["access-control-allow-origin"] == "*"
        answer = request("GET", f"{server.url}/?channels=user-43", headers={"Cookie": "member=ann"})
        assert answer.status == 403
        assert "user-43" in answer.json["reason"]
        with Subscriber(
            server.url, ["user-42", "room-1", "room-2", "front"], headers={"Cookie": "member=ann"}
        ) as ann:
            assert stats(server.url) == {"user-42": 1, "room-1": 1, "front": 1}
            question = application.questions[-1]
            assert question.channels == ["user-42", "room-1", "room-2"]
            assert question.headers["X-Forwarded-For"] == "127.0.0.1"
            publish(server.url, "room-2", "not for her", key="k")
            publish(server.url, "room-1", "for her", key="k")
            assert ann.data(1) == ["for her"]
        assert application.connections == 1


def test_what_the_application_grants_ends_and_it_is_asked_again(serve: Serve) -> None:
    answers = [b'{"expires": 1.5}', b'{"user": "42"}']
    with AskedApplication(lambda _: Reply(200, answers.pop(0))) as application:
        server = serve(f"--auth-url={application.url}", "--http-secret=k")
        publish(server.url, "user-42", "before", key="k")
        with Subscriber(server.url, "user-42", "earliest") as client:
            assert [event.type for event in client.events(2)] == ["message", "sse-expired"]
            client.wait_end()
            position = client.last_event_id
        publish(server.url, "user-42", "between", key="k")
        with Subscriber(server.url, "user-42", position) as client:
            assert client.data(1) == ["between"]
        assert len(application.questions) == 2


def test_the_past_of_a_private_channel_is_private_too(serve: Serve) -> None:
    with AskedApplication(members) as application:
        server = serve(f"--auth-url={application.url}", "--http-secret=k")
        publish(server.url, ["user-42", "user-43"], "a secret", key="k")
        for headers, channel, status in (({}, "user-42", 401), ({"Cookie": "member=ann"}, "user-43", 403)):
            answer = request("GET", f"{server.url}/?channels={channel}&lastEventId=earliest", headers=headers)
            assert answer.status == status
            assert b"a secret" not in answer.body
        with Subscriber(
            server.url, ["user-42", "user-43"], "earliest", headers={"Cookie": "member=ann"}
        ) as ann:
            assert ann.data(1) == ["a secret"]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(302, b"", {"Location": "/login"}),
        Reply(500, b"oops"),
        Reply(404),
        Reply(200, b"{", {"Content-Type": "application/json"}),
        Reply(200, b'{"channels": "a"}'),
        Reply(200, b"x" * 100_000),
        Reply(200, b"", {"Content-Length": "-5"}),
    ],
)
def test_an_application_in_trouble_opens_no_channel_and_public_ones_go_on(serve: Serve, reply: Reply) -> None:
    with AskedApplication(lambda _: reply) as application:
        server = serve(f"--auth-url={application.url}", "--public=front")
        for _ in range(3):
            answer = request("GET", f"{server.url}/?channels=user-42")
            assert answer.status == 503
            assert int(answer.headers["retry-after"]) > 0
        assert len(application.questions) == 3
        assert subscribe(server, "front") == 200
        assert server.log.count("the application at --auth-url") == 1


def test_an_application_that_is_down_or_hangs(serve: Serve) -> None:
    server = serve(f"--auth-url=http://127.0.0.1:{free_port()}/", "--public=front")
    assert request("GET", f"{server.url}/?channels=user-42").status == 503
    assert subscribe(server, "front") == 200
    release = threading.Event()

    def hang(_: Question) -> Reply:
        release.wait(PATIENCE)
        return Reply()

    with AskedApplication(hang) as application:
        server = serve(f"--auth-url={application.url}", "--public=front")
        with closing(Subscriber(server.url, "user-42")) as waiting:
            until(lambda: application.questions, "the question")
            assert subscribe(server, "front") == 200
            assert waiting.wait_open().status == 503
        release.set()


@contextmanager
def many_clients(server: SseServer, count: int) -> Iterator[list[Subscriber]]:
    """So many clients that all come at once."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                closing(Subscriber(server.url, f"user-{number}", headers={"Cookie": f"member={number}"}))
            )
            for number in range(count)
        ]


def test_many_clients_do_not_overrun_the_application(serve: Serve) -> None:
    def slowly(question: Question) -> Reply:
        threading.Event().wait(0.02)  # as an application does that looks into its database
        return Reply(200, json.dumps({"user": question.headers["Cookie"]}).encode())

    with AskedApplication(slowly) as application:
        server = serve(f"--auth-url={application.url}", "--auth-concurrency=4")
        with many_clients(server, 200) as clients:
            for client in clients:
                assert client.wait_open().status == 200
            assert len(application.questions) == 200
            assert application.most_under_way == 4
            assert application.connections <= 5
            assert len(stats(server.url)) == 200


@pytest.mark.slow
def test_clients_that_wait_in_vain_for_a_turn_are_told_to_try_again(serve: Serve) -> None:
    release = threading.Event()

    def hang(_: Question) -> Reply:
        release.wait(PATIENCE)
        return Reply()

    with AskedApplication(hang) as application:
        server = serve(f"--auth-url={application.url}", "--auth-concurrency=1", "--public=front")
        with many_clients(server, 6) as clients:
            assert subscribe(server, "front") == 200
            for client in clients:
                assert client.wait_open().status == 503
                assert "retry-after" in client.headers
        assert len(application.questions) < 6
        release.set()


def test_disconnect_ends_streams_and_their_clients_are_checked_again(serve: Serve) -> None:
    barred: set[str] = set()

    def decide(question: Question) -> Reply:
        user = question.headers["Cookie"].removeprefix("member=")
        return Reply(403) if user in barred else Reply(200, json.dumps({"user": user}).encode())

    with AskedApplication(decide) as application, ExitStack() as stack:
        server = serve(f"--auth-url={application.url}", "--http-secret=k")
        one, two = (
            stack.enter_context(
                Subscriber(server.url, ["room-1", f"user-{user}"], headers={"Cookie": f"member={user}"})
            )
            for user in ("1", "2")
        )
        order = urlencode({"user": "1", "key": "wrong"})
        assert request("POST", f"{server.url}/disconnect", order, FORM).status == 401
        barred.add("1")
        answer = request("POST", f"{server.url}/disconnect", urlencode({"user": "1", "key": "k"}), FORM)
        assert answer.json == {"status": "ok", "streams": 1}
        one.wait_end()
        assert subscribe(server, "room-1", Cookie="member=1") == 403
        publish(server.url, "room-1", "still here", key="k")
        assert two.data(1) == ["still here"]
        bearer = {"Authorization": "Bearer k", "Content-Type": "application/json"}
        answer = request("POST", f"{server.url}/disconnect", '{"channel": "room-1"}', bearer)
        assert answer.json == {"status": "ok", "streams": 1}
        two.wait_end()


def test_every_kind_of_key_from_a_file(serve: Serve, tmp_path: Path) -> None:
    kinds: dict[str, tuple[str, Callable[[], object]]] = {
        "RS256": ("rsa", lambda: private("rsa")),
        "ES384": ("p384", lambda: private("p384")),
        "EdDSA": ("ed25519", lambda: private("ed25519")),
    }
    for algorithm, (kind, key) in kinds.items():
        file = tmp_path / f"{kind}.pem"
        file.write_bytes(pem(kind))
        server = serve(f"--jwt-keys={file}", "--jwt-issuer=us", "--jwt-audience=push")
        good = token(key(), algorithm, subscribe=["a"], iss="us", aud="push")
        assert subscribe(server, "a", Cookie=f"cyclone_sse_token={good}") == 200
        assert (
            subscribe(server, "a", Cookie=f"cyclone_sse_token={token(key(), algorithm, subscribe=['a'])}")
            == 401
        )

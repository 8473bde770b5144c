"""Keys that change while the server runs: a JWKS by URL, and files of secrets."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.harness.asked import AskedApplication, Question, Reply
from tests.harness.clients import Subscriber, request
from tests.harness.process import free_port, until
from tests.harness.servers import SseServer
from tests.harness.twistd import run_plugin
from tests.integration.conftest import Serve
from tests.unit.access.keys import jwk, private, token

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Keys:
    """A JWKS that a server fetches; the test says what comes."""

    def __init__(self, *kinds: str) -> None:
        self.reply = Reply()
        self.serve(*kinds)

    def serve(self, *kinds: str) -> None:
        """Answer with these keys, each with its kind as its name."""
        self.reply = Reply(200, json.dumps({"keys": [jwk(kind, kid=kind) for kind in kinds]}).encode())

    def __call__(self, question: Question) -> Reply:
        return self.reply


def signed(kind: str, **claims: object) -> str:
    algorithm = {"p256": "ES256", "ed25519": "EdDSA", "rsa": "RS256"}[kind]
    return token(private(kind), algorithm, {"kid": kind}, **claims)


def subscribe(server: SseServer, kind: str) -> int:
    """The status that a client with a token of this key gets. Leaves at once."""
    headers = {"Authorization": f"Bearer {signed(kind, subscribe=['*'])}"}
    client = Subscriber(server.url, "a", headers=headers).wait_open()
    client.close()
    return client.status


def publish(server: SseServer, kind: str) -> int:
    headers = {"Authorization": f"Bearer {signed(kind, publish=['*'])}", **FORM}
    body = urlencode({"channel": "a", "message": "x"})
    return request("POST", f"{server.url}/publish", body, headers).status


@pytest.mark.parametrize("use", [subscribe, publish])
def test_a_new_key_is_fetched_for_the_first_token_that_names_it(
    serve: Serve, use: Callable[[SseServer, str], int]
) -> None:
    keys = Keys("p256")
    with AskedApplication(keys) as site:
        server = serve(f"--jwt-keys={site.url}")
        until(lambda: site.questions, "the fetch at the start")
        assert use(server, "p256") == 200
        assert len(site.questions) == 1
        keys.serve("p256", "ed25519")
        assert use(server, "ed25519") == 200
        assert [use(server, "rsa") for _ in range(5)] == [401] * 5
        assert len(site.questions) == 2, "for unknown keys once a minute at most"


@pytest.mark.parametrize("use", [subscribe, publish])
def test_a_server_that_starts_before_its_keys_waits_for_them(
    serve: Serve, use: Callable[[SseServer, str], int]
) -> None:
    port = free_port()
    server = serve(f"--jwt-keys=http://127.0.0.1:{port}/jwks")
    answer = request(
        "GET", f"{server.url}/?channels=a", headers={"Authorization": f"Bearer {signed('p256')}"}
    )
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "no token is accepted" in server.log
    with AskedApplication(Keys("p256"), port=port):
        until(lambda: use(server, "p256") == 200, "the keys")


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500),
        Reply(200, b"<html>"),
        Reply(200, b'{"keys": []}'),
        Reply(200, b"x" * 200_000),
        Reply(200, json.dumps({"keys": [{**jwk("rsa"), "n": "w" + "A" * 40_000}]}).encode()),
    ],
)
def test_the_last_good_keys_stay_whatever_comes(serve: Serve, reply: Reply) -> None:
    """SIGHUP fetches them, too."""
    keys = Keys("p256")
    with AskedApplication(keys) as site:
        server = serve(f"--jwt-keys={site.url}")
        until(lambda: subscribe(server, "p256") == 200, "the keys")
        keys.reply = reply
        server.send_signal(signal.SIGHUP)
        until(lambda: "the last ones stay in use" in server.log, "a line in the log")
        assert subscribe(server, "p256") == 200
        keys.serve("ed25519")
        server.send_signal(signal.SIGHUP)
        until(lambda: subscribe(server, "ed25519") == 200, "the new key")
        assert subscribe(server, "p256") == 401


def test_secrets_of_files_are_changed_without_a_restart(serve: Serve, tmp_path: Path) -> None:
    publishers, tokens = tmp_path / "publishers", tmp_path / "tokens"
    publishers.write_text("old\n")
    tokens.write_text("o" * 32)
    server = serve(f"--http-secret-file={publishers}", f"--jwt-secret-file={tokens}")

    def publish_with(key: str) -> int:
        body = urlencode({"channel": "a", "message": "x", "key": key})
        return request("POST", f"{server.url}/publish", body, FORM).status

    def subscribe_with(secret: str) -> int:
        headers = {"Authorization": f"Bearer {token(secret, subscribe=['a'])}"}
        client = Subscriber(server.url, "a", headers=headers).wait_open()
        client.close()
        return client.status

    assert (publish_with("old"), publish_with("new")) == (200, 401)
    assert (subscribe_with("o" * 32), subscribe_with("n" * 32)) == (200, 401)
    publishers.write_text("new\nold\n")
    tokens.write_text("n" * 32 + "\n" + "o" * 32 + "\n")
    server.send_signal(signal.SIGHUP)
    until(lambda: publish_with("new") == 200, "the new secrets")
    assert publish_with("old") == 200
    assert (subscribe_with("o" * 32), subscribe_with("n" * 32)) == (200, 200)
    publishers.write_text("")
    tokens.write_text("n" * 32)
    server.send_signal(signal.SIGHUP)
    until(lambda: "there is no secret in it" in server.log, "a line about the empty file")
    assert publish_with("new") == 200, "what cannot be read stays as it was"
    assert (subscribe_with("o" * 32), subscribe_with("n" * 32)) == (401, 200)


def test_check_fetches_the_keys(tmp_path: Path) -> None:
    port = f"--port={free_port()}"
    with AskedApplication(Keys("p256")) as site:
        good = run_plugin(tmp_path, "--check=1", port, f"--jwt-keys={site.url}")
        assert good.returncode == 0, good.stderr
        assert len(site.questions) == 1
        asked = run_plugin(tmp_path, "--check=1", port, f"--auth-url={site.url}", "--auth-host=www.example")
        assert asked.returncode == 0, asked.stderr
        assert site.questions[-1].headers["Host"] == "www.example"
    bad = run_plugin(tmp_path, "--check=1", port, f"--jwt-keys=http://127.0.0.1:{free_port()}/jwks")
    assert bad.returncode != 0
    (line,) = bad.stderr.splitlines()
    assert line.startswith("cyclone-sse: --jwt-keys: ")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://ann:hush@www.example/auth", "user name and password"),
        ("http://www.example/a b", "spaces"),
        ("http://wörld.example/", "xn--"),
        ("http://my_app:8000/", "no _"),
        ("unix:relative.sock", "unix:/path/of.sock:/path"),
    ],
)
def test_a_url_that_cannot_be_asked_is_a_mistake_at_the_start(tmp_path: Path, url: str, words: str) -> None:
    for option in ("auth-url", "presence-url"):
        ended = run_plugin(tmp_path, f"--port={free_port()}", f"--{option}={url}")
        assert ended.returncode != 0
        (line,) = ended.stderr.splitlines()
        assert line.startswith(f"cyclone-sse: --{option}=")
        assert words in line
        assert "hush" not in line

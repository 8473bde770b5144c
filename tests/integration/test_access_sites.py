"""Access, decided by a Django project, a PHP page and nginx, with the code of docs/access.md."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.harness.clients import Subscriber, publish, request, stats
from tests.harness.docs import shown
from tests.harness.patience import PATIENCE
from tests.harness.process import ROOT, free_port, need, until
from tests.harness.servers import Nginx
from tests.harness.sites import Browser, DjangoSite, PhpSite
from tests.integration.conftest import Serve
from tests.unit.access.keys import SECRET


def status(url: str, *channels: str, path: str = "/", headers: dict[str, str] | None = None) -> int:
    """The status that a client with these headers gets. Leaves at once."""
    client = Subscriber(url, channels, path=path, headers=headers).wait_open()
    client.close()
    return client.status


@pytest.fixture
def django(tmp_path: Path) -> Iterator[Callable[..., DjangoSite]]:
    """A function that starts the project."""
    with ExitStack() as stack:
        yield lambda push_url, port=None, settings="": stack.enter_context(
            DjangoSite(tmp_path, push_url, port, settings)
        )


def test_a_django_session_decides(serve: Serve, django: Callable[..., DjangoSite]) -> None:
    port = free_port()
    server = serve(f"--auth-url=http://127.0.0.1:{port}/push/auth", "--http-secret=KEY", "--public=front")
    site = django(server.url, port)
    ann, bob = Browser(site.url), Browser(site.url)
    assert status(server.url, "front") == 200
    assert status(server.url, "user-1") == 401
    assert ann.get("/login", name="ann") == (200, "1")
    assert bob.get("/login", name="bob") == (200, "2")
    assert status(server.url, "user-2", headers=ann.cookies) == 403
    assert status(server.url, "user-1", "room-tea", headers=ann.cookies) == 403
    ann.get("/join", room="tea")
    with Subscriber(server.url, ["user-1", "room-tea"], headers=ann.cookies) as stream:
        # Only what was committed is published.
        assert ann.get("/pay", order="7", fail="1")[0] == 500
        assert ann.get("/pay", order="8") == (200, "paid")
        publish(server.url, "room-tea", "hello", key="KEY")
        assert stream.data(2) == ['{"paid":"8"}', "hello"]
        with Subscriber(server.url, "user-2", headers=bob.cookies) as other:
            cookies = ann.cookies
            assert ann.get("/logout") == (200, "bye")
            stream.wait_end()
            assert status(server.url, "user-1", headers=cookies) == 401
            bob.get("/pay", order="9")
            assert other.data(1) == ['{"paid":"9"}']


STRICT = """
ALLOWED_HOSTS = ["www.example"]
SECURE_SSL_REDIRECT = True
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
DEBUG = False
"""


def test_a_django_project_with_the_settings_of_production(
    serve: Serve, django: Callable[..., DjangoSite]
) -> None:
    """It refuses names that it does not know, and sends clients to https."""
    port = free_port()
    auth = f"--auth-url=http://127.0.0.1:{port}/push/auth"
    named = serve(auth, "--auth-host=www.example", "--trust-proxy=1")
    django(named.url, port, STRICT)
    as_https = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1"}
    assert status(named.url, "user-1", headers=as_https) == 401, "it has decided: the client is not logged in"
    assert "the application" not in named.log
    assert status(named.url, "user-1") == 503
    assert "SECURE_PROXY_SSL_HEADER" in named.log
    unnamed = serve(auth, "--trust-proxy=1")
    assert status(unnamed.url, "user-1", headers=as_https) == 503
    assert "ALLOWED_HOSTS" in unnamed.log


def test_a_client_that_reconnects_during_the_logout_is_refused(
    django: Callable[..., DjangoSite],
) -> None:
    statuses: list[int] = []

    class Push(BaseHTTPRequestHandler):
        """Stands for the server: asks the application while it is told to end the streams."""

        def do_POST(self) -> None:
            statuses.append(request("GET", f"{site.url}/push/auth?channels=user-1", headers=cookies).status)
            self.send_response(200)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Push) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site = django(f"http://127.0.0.1:{server.server_port}")
        ann = Browser(site.url)
        ann.get("/login", name="ann")
        cookies = ann.cookies
        assert request("GET", f"{site.url}/push/auth?channels=user-1", headers=cookies).status == 200
        assert ann.get("/logout") == (200, "bye")
        server.shutdown()
    assert statuses == [401]


def test_a_push_that_fails_does_not_fail_the_request(django: Callable[..., DjangoSite]) -> None:
    site = django(f"http://127.0.0.1:{free_port()}")
    ann = Browser(site.url)
    ann.get("/login", name="ann")
    assert ann.get("/pay", order="8") == (200, "paid")
    assert ann.get("/logout") == (200, "bye")
    until(lambda: site.log.count("Error calling") == 2, "a line about each in Django's log")


def test_a_token_from_a_django_page(serve: Serve, django: Callable[..., DjangoSite]) -> None:
    server = serve(f"--jwt-secret={SECRET}")
    site = django(server.url)
    ann = Browser(site.url)
    ann.get("/login", name="ann")
    assert status(server.url, "user-1", headers=ann.cookies) == 401
    ann.get("/page", secret=SECRET)
    assert status(server.url, "user-1", headers=ann.cookies) == 200
    assert status(server.url, "user-2", headers=ann.cookies) == 403


def test_a_php_session_decides(serve: Serve, tmp_path: Path) -> None:
    for name in ("auth.php", "push.php"):
        (tmp_path / name).write_text(shown("access.md", name, "php"))
        subprocess.run([need("php"), "-l", str(tmp_path / name)], check=True, capture_output=True)
    home = tmp_path / "php"
    home.mkdir()
    port = free_port()
    push_url = f"http://127.0.0.1:{port}"
    with PhpSite(home, push_url) as site:
        ann = Browser(site.url)
        assert ann.get("/say.php", to="user-42", text="x") == (200, "failed")  # and the page goes on
        until(lambda: "not published: " in site.log, "the reason in PHP's log")
        server = serve(f"--auth-url={site.url}/auth.php", "--http-secret=KEY", f"--port={port}")
        assert status(push_url, "user-42") == 401
        ann.get("/login.php", user="42")
        assert status(push_url, "user-43", headers=ann.cookies) == 403
        with Subscriber(push_url, ["user-42", "room-1"], headers=ann.cookies) as stream:
            assert ann.get("/say.php", to="user-42", text="Grüße & Küsse") == (200, "sent")
            assert stream.data(1) == ['{"text":"Grüße & Küsse"}']
        assert server.running


PAGES = {
    "html": "<!DOCTYPE html><title>Log in</title>",
    "false": "<?php header('Content-Type: application/json'); echo json_encode(false);",
    "notice": "<?php echo $missing['x']; header('Content-Type: application/json'); echo '{}';",
    "fatal": "<?php new PDO('mysql:host=127.0.0.1;port=1');",
    "bom": "\ufeff<?php header('Content-Type: application/json'); echo '{\"channels\": [\"user-1\"]}';",
    "null": "<?php header('Content-Type: application/json'); echo json_encode(null);",
    "yes": "<?php header('Content-Type: text/plain');",
}


@pytest.mark.parametrize(
    ("page", "expected", "logged"),
    [
        ("html", 503, "an HTML page"),
        ("false", 503, "false"),
        ("notice", 503, "display_errors"),
        ("fatal", 503, ""),
        ("bom", 200, None),
        ("null", 200, None),
        ("yes", 200, None),
    ],
)
def test_what_php_answers_opens_a_channel_only_if_it_decides(
    serve: Serve, tmp_path: Path, page: str, expected: int, logged: str | None
) -> None:
    home = tmp_path / "php"
    home.mkdir()
    (home / "page.php").write_text(PAGES[page])
    with PhpSite(home, "http://127.0.0.1:1", ["-d", "display_errors=1"]) as site:
        server = serve(f"--auth-url={site.url}/page.php")
        assert status(server.url, "user-1") == expected
        lines = [line for line in server.log.splitlines() if "the application at --auth-url" in line]
        assert len(lines) == (logged is not None)
        assert not lines or (logged or "") in lines[0]


def before(application: int, server: int) -> str:
    """The configuration of the page, for these ports."""
    text = shown("access.md", "auth_request.conf", "nginx")
    for old, new in {
        "listen 8080;": "listen 127.0.0.1:{port};",
        "127.0.0.1:8000": f"127.0.0.1:{application}",
        "127.0.0.1:8888": f"127.0.0.1:{server}",
        "/var/log/nginx/": "",  # below nginx's own directory
    }.items():
        assert old in text
        text = text.replace(old, new)
    return text


def test_the_sample_is_what_the_page_shows() -> None:
    sample = (ROOT / "extras" / "nginx-auth-request.conf").read_text()
    assert sample.endswith("\n\n" + shown("access.md", "auth_request.conf", "nginx"))


def test_a_client_that_comes_while_the_application_is_away_is_told_to_try_again(
    serve: Serve, nginx: Callable[[str], Nginx]
) -> None:
    front = nginx(before(free_port(), serve().port))
    answer = request("GET", front.url + "/sse/?channels=a")
    assert (answer.status, answer.body) == (200, b"retry: 3000\n\n")
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["x-sse-upstream"].strip() == "502"
    log = front.directory / "sse-away.log"
    line = '"GET /sse/" 200 application=502 upstream='
    until(lambda: line in log.read_text(), "a line in the log")


def test_nginx_asks_the_application(
    serve: Serve, django: Callable[..., DjangoSite], nginx: Callable[[str], Nginx]
) -> None:
    server = serve()
    site = django(server.url)
    front = nginx(before(site.port, server.port))
    ann = Browser(front.url)
    assert ann.get("/login", name="ann") == (200, "1")
    for channels, headers, expected in (
        (["user-1"], {}, 401),
        (["user-2"], ann.cookies, 403),
        (["user-1", "user-2"], ann.cookies, 403),
        (["user-1"], ann.cookies, 200),
    ):
        assert status(front.url, *channels, path="/sse/", headers=headers) == expected
    with Subscriber(front.url, "user-1", path="/sse/", headers=ann.cookies) as stream:
        publish(server.url, "user-1", "hello")
        assert stream.data(1) == ["hello"]
        assert stats(server.url) == {"user-1": 1}
    with Subscriber(front.url, "user-1", "earliest", path="/sse/", headers=ann.cookies) as stream:
        assert stream.data(1) == ["hello"]
    query = {"lastEventId": "earliest", "fields": "channel", "client": "tab-1"}
    with Subscriber(front.url, "user-1", path="/sse/", query=query, headers=ann.cookies) as stream:
        assert stream.data(1) == ["hello"]
        assert b"\nchannel: user-1\n" in stream.body
    query = {"lastEventId": "earliest", "stream": "1"}
    as_react_native = ann.cookies | {"X-Requested-With": "XMLHttpRequest"}
    with Subscriber(front.url, "user-1", path="/sse/", query=query, headers=as_react_native) as stream:
        assert stream.data(1) == ["hello"]
        publish(server.url, "user-1", "again")
        assert stream.data(1) == ["again"]
    for name in ("stats", "publish", "disconnect", "%73tats", "x/../stats"):
        assert request("GET", f"{front.url}/sse/{name}", headers=ann.cookies).status in (400, 404)


def test_no_query_goes_round_the_question_of_nginx(
    serve: Serve, django: Callable[..., DjangoSite], nginx: Callable[[str], Nginx]
) -> None:
    server = serve()
    front = nginx(before(django(server.url).port, server.port))
    ann = Browser(front.url)
    ann.get("/login", name="ann")
    for query in (
        "channel=user-2",
        "channels[]=user-2",
        "channels=user-1&channels%5B%5D=user-2",
        "channels%5B%5D=user-2&x=?channels=user-1",
        "channels=user-1?&channels=user-1&channel=user-2",
        "channels=user-1&lastEventId=1?channels=user-2",
        "channels=user-1&fields=x%26channels=user-2",
        "channels=user-1;channels=user-2",
        "channels=user-1&x=#&channels=user-2",
    ):
        lines = [f"GET /sse/?{query} HTTP/1.1", "Host: x", f"Cookie: {ann.cookies['Cookie']}", "", ""]
        with socket.create_connection(("127.0.0.1", front.port), timeout=PATIENCE) as client:
            client.sendall("\r\n".join(lines).encode())
            if client.recv(1000).startswith(b"HTTP/1.1 200"):
                until(lambda: stats(server.url), "the stream")
            assert "user-2" not in stats(server.url), query
        until(lambda: not stats(server.url), "its end")

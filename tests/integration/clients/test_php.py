"""The PHP client, run by PHP against the real server and broken ones, and loaded as by Composer."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.harness.clients import Subscriber, request
from tests.harness.docs import shown
from tests.harness.patience import PATIENCE
from tests.harness.process import ROOT, free_port, need
from tests.harness.scripted import answer, scripted
from tests.harness.servers import SseServer
from tests.integration.conftest import Serve
from tests.unit.access.keys import SECRET

PAGE = "clients/php/README.md"
_AUTOLOAD = """<?php
error_reporting(E_ALL);
set_error_handler(static function (int $level, string $text): bool {
    if (error_reporting() & $level) {
        throw new ErrorException($text);
    }
    return false;
});
$rules = json_decode(file_get_contents('%s/composer.json'), true)['autoload']['psr-4'];
spl_autoload_register(static function (string $class) use ($rules): void {
    foreach ($rules as $prefix => $folder) {
        require '%s/' . $folder . substr($class, strlen($prefix)) . '.php';
    }
});
"""
AWAY = b'{"status": "error", "reason": "the broker is away", "published": false}'


def php(directory: Path, code: str, setting: str = "", **env: str) -> str:
    """Run code after the autoloader, with this setting of PHP; returns what it prints."""
    client = ROOT / "clients" / "php"
    (directory / "autoload.php").write_text(_AUTOLOAD % (client, client))
    path = directory / "code.php"
    path.write_text(code if code.startswith("<?php") else f"<?php\n{code}")
    command = [need("php"), "-d", f"auto_prepend_file={directory}/autoload.php", "-d", setting, str(path)]
    done = subprocess.run(
        command, env=os.environ | env, capture_output=True, check=False, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def call(directory: Path, url: str, code: str, key: str = "", setting: str = "", **how: float) -> Any:
    """What an expression on `$publisher` gives, or how it fails."""
    more = "".join(f", {name}: {value}" for name, value in how.items())
    return json.loads(
        php(
            directory,
            f"""
            use CycloneSse\\Failure;
            use CycloneSse\\Publisher;
            $publisher = new Publisher('{url}', '{key}'{more});
            try {{
                echo json_encode({code});
            }} catch (Failure $failure) {{
                echo json_encode([
                    'reason' => $failure->reason, 'status' => $failure->status,
                    'temporary' => $failure->temporary, 'published' => $failure->published,
                ]);
            }}
            """,
            setting,
        )
    )


def test_messages_arrive_as_they_are_meant(server: SseServer, tmp_path: Path) -> None:
    with Subscriber(server.url, ["a", "b"]) as client:
        done = call(tmp_path, server.url, "$publisher->publish(['a', 'b'], 'Grüße & \"Küsse\"', event: 'hi')")
        event = client.event()
        assert (event.type, event.data) == ("hi", 'Grüße & "Küsse"')
        assert done == {"status": "ok", "id": event.id, "subscribers": 1}
        call(tmp_path, server.url, "$publisher->publish('a', ['price' => 1.0, 'path' => 'a/ü'])")
        assert client.event().data == '{"price":1.0,"path":"a/ü"}'
        assert call(tmp_path, server.url, "$publisher->disconnect(channels: 'a')") == 1
        client.wait_end()


REFUSED = [
    ("another", "$publisher->publish('a', 1)", 401, "key"),
    ("KEY", "$publisher->publish('a', 1, event: 'sse-x')", 400, "sse-"),
    ("KEY", "$publisher->publish([], 1)", 400, "channel"),
    ("KEY", "$publisher->publish('a', str_repeat('x', 2000))", 413, ""),
]


@pytest.mark.parametrize(
    "code",
    [
        "$publisher->publish(array_filter(['', 'a']), 1)",
        "$publisher->batch([['channel' => array_filter(['', 'a']), 'message' => 1]])",
        "$publisher->batch([['channels' => array_filter(['', 'a']), 'message' => 1]])",
        "$publisher->disconnect(channels: array_filter(['', 'a']))",
        "$publisher->clear(array_filter(['', 'a']))",
    ],
)
def test_channels_may_have_gaps_in_their_numbers(server: SseServer, tmp_path: Path, code: str) -> None:
    assert "reason" not in str(call(tmp_path, server.url, code))


def test_what_is_refused_says_why(serve: Serve, tmp_path: Path) -> None:
    server = serve("--http-secret=KEY", "--max-body=1000")
    for key, code, status, reason in REFUSED:
        failure = call(tmp_path, server.url, code, key)
        assert (failure["status"], failure["temporary"], failure["published"]) == (status, False, False)
        assert reason in failure["reason"]


def test_text_that_is_not_utf_8_is_a_failure_like_others(tmp_path: Path) -> None:
    for code in (
        "$publisher->publish('a', \"Gr\\xfc\\xdfe\")",
        '$publisher->publish("\\xfc", 1)',
        "$publisher->batch([['channel' => 'a', 'message' => [\"\\xfc\"]]])",
        '$publisher->disconnect(user: "\\xfc")',
        '$publisher->clear("\\xfc")',
    ):
        failure = call(tmp_path, "http://127.0.0.1:1", code)
        assert (failure["status"], failure["temporary"], failure["published"]) == (0, False, False)
        assert "UTF-8" in failure["reason"]


NEVER_SENT = [
    ("http://127.0.0.1:1", "allow_url_fopen=0", "allow_url_fopen is off"),
    ("127.0.0.1:1", "", "must begin with http:// or https://"),
    ("ftp://127.0.0.1:1", "", "must begin with http:// or https://"),
    ("", "", "must begin with http:// or https://"),
]


@pytest.mark.parametrize(("url", "setting", "reason"), NEVER_SENT)
def test_a_page_does_not_wait_for_what_can_never_succeed(
    tmp_path: Path, url: str, setting: str, reason: str
) -> None:
    for code in ("$publisher->publish('a', 1)", "$publisher->presence('a')"):
        failure = call(tmp_path, url, code, setting=setting)
        assert (failure["status"], failure["temporary"], failure["published"]) == (0, False, False)
        assert reason in failure["reason"]


def test_a_server_that_is_away(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    failure = call(tmp_path, url, "$publisher->publish('a', 1)", patience=0.3)
    assert (failure["status"], failure["temporary"], failure["published"]) == (0, True, False)
    assert "refused" in failure["reason"]


def test_a_server_that_hangs(tmp_path: Path) -> None:
    with scripted(b"") as server:
        failure = call(tmp_path, server.url, "$publisher->publish('a', 1)", timeout=1, patience=0)
    assert (failure["temporary"], failure["published"]) == (True, None)


def test_an_answer_that_was_lost_is_asked_for_with_the_same_key(tmp_path: Path) -> None:
    away = answer("503 No", AWAY, "Retry-After: 0")
    with scripted(None, answer("502 Bad Gateway", b"<html>"), away) as server:
        assert call(tmp_path, server.url, "$publisher->publish('a', 1)")["subscribers"] == 0
        assert len(server.asked) == 4
        assert len(set(server.keys)) == 1
        assert server.keys[0]


def test_an_answer_that_is_cut_off_is_asked_for_with_the_same_key(tmp_path: Path) -> None:
    cut = b'HTTP/1.1 200 OK\r\nContent-Length: 40\r\nConnection: close\r\n\r\n{"status": "ok"'
    with scripted(cut) as server:
        failure = call(tmp_path, server.url, "$publisher->publish('a', 1)", patience=0)
        assert (failure["temporary"], failure["published"]) == (True, None)
    with scripted(cut, answer("200 OK", b'{"status": "ok", "subscribers": 0}')) as server:
        assert call(tmp_path, server.url, "$publisher->publish('a', 1)")["subscribers"] == 0
        assert len(set(server.keys)) == 1


def test_a_key_adds_no_headers(tmp_path: Path) -> None:
    with scripted() as server:
        publish = r"""$publisher->publish('a', 1, idempotencyKey: "k\r\nX-More: 1")"""
        assert "line breaks" in call(tmp_path, server.url, publish)["reason"]
        assert not server.asked


def test_each_message_of_a_batch_has_its_key(tmp_path: Path) -> None:
    with scripted() as server:
        messages = "[['channel' => 'a', 'message' => 1], ['channel' => 'b', 'message' => 2]]"
        call(tmp_path, server.url, f"$publisher->batch({messages}, 'k')")
        body = json.loads(server.asked[0].partition(b"\r\n\r\n")[2])
    assert [each["idempotency_key"] for each in body] == ["k-0", "k-1"]


def test_a_server_that_is_full_for_long(tmp_path: Path) -> None:
    with scripted(answer("503 No", AWAY, "Retry-After: 60")) as server:
        failure = call(tmp_path, server.url, "$publisher->publish('a', 1)")
        assert len(server.asked) == 1
    expected = {"reason": "the broker is away", "status": 503, "temporary": True, "published": False}
    assert failure == expected


def test_a_retry_after_that_is_no_time_is_no_error(tmp_path: Path) -> None:
    with scripted(answer("503 No", AWAY, "Retry-After: -5")) as server:
        assert call(tmp_path, server.url, "$publisher->publish('a', 1)")["status"] == "ok"
        assert len(server.asked) == 2


def test_what_is_no_cyclone_sse_is_named(tmp_path: Path) -> None:
    with scripted(answer("200 OK", b"<html>hello")) as server:
        failure = call(tmp_path, server.url, "$publisher->publish('a', 1)")
    assert "not an answer of cyclone-sse: <html>hello" in failure["reason"]


@pytest.mark.parametrize("name", ["token.php", "cookie.php"])
def test_a_token_of_the_page(serve: Serve, tmp_path: Path, name: str) -> None:
    server = serve(f"--jwt-secret={SECRET}")
    code = shown(PAGE, name, "php").replace("session_start(['read_and_close' => true]);", "")
    code = code.replace("<?php", "<?php $_SESSION = ['user' => 42];", 1)
    if name == "cookie.php":
        code += "echo $token;"
    token = php(tmp_path, code, JWT_SECRET=SECRET)
    for channel, expected in (("user-42", 200), ("news-1", 200), ("user-43", 403)):
        url = f"{server.url}/?channels={channel}&access_token={token}"
        assert request("HEAD", url).status == expected


def test_a_user_that_is_not_logged_in_gets_no_token(tmp_path: Path) -> None:
    assert php(tmp_path, shown(PAGE, "token.php", "php"), JWT_SECRET=SECRET) == ""


def test_all_of_the_channels_are_read(tmp_path: Path) -> None:
    query = "channels=a&x=channels=b&channels=user-1%26&channels=a&mychannels=c&channels=d+e"
    code = "echo json_encode(CycloneSse\\Publisher::askedChannels());"
    printed = php(tmp_path, f"$_SERVER['QUERY_STRING'] = '{query}'; {code}")
    assert json.loads(printed) == ["a", "user-1&", "d e"]


def test_the_page_publishes(serve: Serve, tmp_path: Path) -> None:
    server = serve("--http-secret=KEY")
    code = shown(PAGE, "publish.php", "php").replace("http://127.0.0.1:8888", server.url)
    code = code.replace("    $publisher->batch", "    //")
    with Subscriber(server.url, ["news", "front"]) as client:
        php(tmp_path, code)
        assert client.data(2) == ['{"title":"Hello"}', "A string goes out as it is"]


def test_the_page_that_is_asked(serve: Serve, tmp_path: Path) -> None:
    code = shown(PAGE, "auth.php", "php").replace("session_start(['read_and_close' => true]);", "")
    start = "$_SESSION = ['user' => 42]; $_SERVER['QUERY_STRING'] = 'channels=user-42&channels=user-7';"
    answered = json.loads(php(tmp_path, code.replace("<?php", f"<?php {start}", 1)))
    assert answered == {"channels": ["user-42"], "user": "42", "expires": 3600}

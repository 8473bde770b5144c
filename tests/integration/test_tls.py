"""The TLS port: one broker behind both ports, the chain of a certificate, and files that are wrong."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.harness.certificates import certify, tls_options, write_certificates
from tests.harness.clients import Subscriber, publish, request, stats
from tests.harness.patience import PATIENCE
from tests.harness.process import need, until
from tests.harness.servers import SseServer
from tests.harness.twistd import run_twistd

Serve = Callable[..., SseServer]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with root.pem, chain.pem (leaf and intermediate), leaf.key and other.key."""
    return write_certificates(tmp_path_factory.mktemp("tls"))


def test_both_ports_share_one_broker(serve: Serve, files: Path) -> None:
    server = serve(*tls_options(files))
    context = ssl.create_default_context(cafile=str(files / "root.pem"))
    with Subscriber(server.ssl_url, tls=context) as secure, Subscriber(server.url) as plain:
        assert stats(server.url) == {"base": 2}
        publish(server.url, "base", "one")
        publish(server.ssl_url, "base", "two" * 300_000, tls=context)
        assert secure.data(2) == plain.data(2) == ["one", "two" * 300_000]


def test_each_event_leaves_at_once(serve: Serve, files: Path) -> None:
    server = serve(*tls_options(files))
    context = ssl.create_default_context(cafile=str(files / "root.pem"))
    with Subscriber(server.ssl_url, tls=context) as secure:
        for number in range(5):
            publish(server.url, "base", str(number))
            assert secure.data(1) == [str(number)], "it must not wait for the next one"


def test_clients_that_do_not_read_hold_up_no_other_and_are_cut_off(serve: Serve, files: Path) -> None:
    server = serve(*tls_options(files), "--client-buffer=100000", "--stall-timeout=2")
    context = ssl.create_default_context(cafile=str(files / "root.pem"))
    with Subscriber(server.ssl_url, tls=context) as reader:
        slow = [Subscriber(server.ssl_url, tls=context, receive_buffer=4096).wait_open() for _ in range(5)]
        for number in range(200):
            publish(server.url, "base", f"{number}@" + "x" * 50_000)
            assert reader.event().data.startswith(f"{number}@")
        until(lambda: stats(server.url) == {"base": 1}, "the others to be cut off")
        for client in slow:
            client.close()


def test_curl_trusts_the_chain_by_its_root_alone(serve: Serve, files: Path) -> None:
    server = serve(*tls_options(files))
    curl = [need("curl"), "-sS", "--cacert", str(files / "root.pem"), f"{server.ssl_url}/stats"]
    assert subprocess.run(curl, capture_output=True, check=True, timeout=PATIENCE).stdout == b"[]"


def test_tls_1_1_is_refused(serve: Serve, files: Path) -> None:
    server = serve(*tls_options(files))
    context = ssl.create_default_context(cafile=str(files / "root.pem"))
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        Subscriber(server.ssl_url, tls=context)


def session(context: ssl.SSLContext, server: SseServer, known: ssl.SSLSession | None) -> tuple[bool, object]:
    """Ask once over TLS; whether the session was resumed, and the one for the next time."""
    with (
        socket.create_connection(("127.0.0.1", server.ssl_port)) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1", session=known) as secure,
    ):
        secure.sendall(b"GET /stats HTTP/1.1\r\nHost: a\r\n\r\n")
        assert secure.recv(1000).startswith(b"HTTP/1.1 200 ")
        return bool(secure.session_reused), secure.session


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_comes_back_needs_no_full_handshake(
    serve: Serve, files: Path, version: ssl.TLSVersion
) -> None:
    server = serve(*tls_options(files))
    context = ssl.create_default_context(cafile=str(files / "root.pem"))
    context.minimum_version = context.maximum_version = version
    first, known = session(context, server, None)
    again, known = session(context, server, known)  # type: ignore[arg-type]
    assert (first, again) == (False, True)
    assert session(context, server, known)[0], "and again"  # type: ignore[arg-type]


@pytest.mark.parametrize("ciphers", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "ECDHE+SHA1"])
def test_ciphers_without_forward_secrecy_or_authentication_are_refused(
    serve: Serve, files: Path, ciphers: str
) -> None:
    server = serve(*tls_options(files))
    context = ssl.create_default_context(cafile=str(files / "root.pem"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        Subscriber(server.ssl_url, tls=context)


def test_plain_http_on_the_tls_port_is_told_so(serve: Serve, files: Path) -> None:
    server = serve(*tls_options(files))
    answer = request("GET", f"http://127.0.0.1:{server.ssl_port}/stats")
    assert answer.status == 400
    assert answer.json == {"status": "error", "reason": "this port serves only HTTPS"}


def test_a_refusal_is_read_to_its_end(serve: Serve, files: Path) -> None:
    server = serve(*tls_options(files), "--max-body=10")
    context = ssl.create_default_context(cafile=str(files / "root.pem"))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = request("POST", f"{server.ssl_url}/publish", "channel=a&message=" + "b" * 100, form, context)
    assert answer.status == 413


def test_sighup_reloads_the_certificate_and_keeps_connections(
    serve: Serve, files: Path, tmp_path: Path
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes((files / "chain.pem").read_bytes())
    key.write_bytes((files / "leaf.key").read_bytes())
    channels = tmp_path / "channels.toml"
    channels.write_text("")
    server = serve("--use-ssl=1", f"--ssl-cert={cert}", f"--ssl-key={key}", f"--channels={channels}")
    context = ssl.create_default_context(cafile=str(files / "root.pem"))
    with Subscriber(server.ssl_url, tls=context) as reader:
        cert.write_text("damaged")
        channels.write_text("damaged")
        server.send_signal(signal.SIGHUP)
        until(lambda: "cert.pem does not contain a PEM certificate\n" in server.log, "the complaint")
        assert server.log.count("does not contain") == 1
        assert "channels.toml: " in server.log, "every problem is named"
        assert session(context, server, None)[1], "the old one is still in use"
        owner = certify("other", None, False)
        cert.write_bytes(owner[0].public_bytes(Encoding.PEM))
        key.write_bytes(owner[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        server.send_signal(signal.SIGHUP)
        newer = ssl.create_default_context(cafile=str(cert))
        until(lambda: served_by(server.ssl_port) == cert.read_text(), "the new certificate")
        assert session(newer, server, None)[1]
        publish(server.url, "base", "still there")
        assert reader.data(1) == ["still there"]


def served_by(port: int) -> str:
    """The certificate that a port shows."""
    return ssl.get_server_certificate(("127.0.0.1", port))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("--ssl-key=/nowhere.key", "/nowhere.key"),
        ("--ssl-cert=/nowhere.crt", "/nowhere.crt"),
        ("", "other.key"),
    ],
)
def test_a_wrong_file_is_one_line_and_an_exit(tmp_path: Path, files: Path, change: str, named: str) -> None:
    server = SseServer(tmp_path, *tls_options(files, "leaf.key" if change else "other.key"), change)
    server.options = [option for option in server.options if option]
    run = run_twistd(tmp_path, *server.argv()[1:])
    assert run.returncode != 0
    assert len((run.stdout + run.stderr).splitlines()) == 1
    assert named in run.stderr

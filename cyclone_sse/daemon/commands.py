"""The commands that do not serve: publish one message, and make a token. For experiments and scripts.

Both read the server's own options, from ``CYCLONE_SSE_...`` variables and ``--config``, and so find its
address and its secrets. They run without a reactor, and may block.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import jwt

from cyclone_sse.access.secret_file import read_secrets
from cyclone_sse.daemon.command_line import Options
from cyclone_sse.values import seconds

TIMEOUT = 10.0  # seconds for the server to answer


def publish_message(arguments: Sequence[str]) -> None:
    """Publish one message, and print the server's answer. Exits with 1 and the reason if it is refused."""
    parser = _parser("publish", "Publish one message to a running server.")
    parser.add_argument("channel", help="the channel to publish to")
    parser.add_argument("message", help="the text of the message; - reads it from standard input")
    parser.add_argument(
        "--url", help="URL of the server [default: this machine, port of --config or CYCLONE_SSE_PORT]"
    )
    parser.add_argument(
        "--key", help="the publishing key, or a token [default: http-secret of --config or the environment]"
    )
    parser.add_argument("--event", help="the type of the event")
    parser.add_argument("--keep", action="store_true", help="make the event the state of the channel")
    given = parser.parse_args(arguments)
    settings = _settings(given.config)
    body = {"channel": given.channel, "message": _message(given.message)}
    body |= {"event": given.event} if given.event else {}
    body |= {"keep": True} if given.keep else {}
    url = given.url or f"http://127.0.0.1:{settings['port']}"
    try:
        status, answer = _post(url, given.key or find_secret(settings, "http-secret"), body)
    except (OSError, HTTPException, ValueError) as error:
        raise SystemExit(f"cyclone-sse: {url}: {error}") from None
    if status != 200:
        raise SystemExit(f"cyclone-sse: {url}: {status} {answer}")
    print(answer)


def print_token(arguments: Sequence[str]) -> None:
    """Print a signed token. Exits with 1 and one line if there is no secret to sign it with."""
    parser = _parser("token", "Print a token (JWT) for private channels, signed with --jwt-secret.")
    parser.add_argument("--sub", help="name of the user")
    parser.add_argument(
        "--subscribe", action="append", metavar="GLOB", help="channels to subscribe to; repeatable"
    )
    parser.add_argument(
        "--publish", action="append", metavar="GLOB", help="channels to publish to; repeatable"
    )
    parser.add_argument(
        "--expires", type=_lifetime, default=3600, help="seconds until the token expires [default: 3600]"
    )
    parser.add_argument(
        "--jwt-secret", help="secret to sign with [default: that of --config or CYCLONE_SSE_JWT_SECRET]"
    )
    given = parser.parse_args(arguments)
    settings = _settings(given.config, *([f"--jwt-secret={given.jwt_secret}"] if given.jwt_secret else []))
    secret = find_secret(settings, "jwt-secret")
    if not secret:
        raise SystemExit("cyclone-sse: no secret: use CYCLONE_SSE_JWT_SECRET, --config or --jwt-secret")
    print(jwt.encode(make_claims(vars(given), settings, time.time()), secret, algorithm="HS256"))


def make_claims(given: Mapping[str, Any], settings: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Return the claims that were asked for, with the issuer and audience that the server expects."""
    found = {name: given[name] for name in ("sub", "subscribe", "publish") if given[name]}
    found |= {
        claim: settings[option]
        for claim, option in (("iss", "jwt-issuer"), ("aud", "jwt-audience"))
        if settings[option]
    }
    return {**found, "exp": int(now + given["expires"])}


def find_secret(settings: Mapping[str, Any], option: str) -> str | None:
    """Return the secret of an option, or the first one of its file; None if there is none.

    Exits with one line if the file cannot be read.
    """
    if settings[option] or not settings[f"{option}-file"]:
        secret: str | None = settings[option]
        return secret
    try:
        return read_secrets(f"{option}-file", settings[f"{option}-file"])[0]
    except ValueError as error:
        raise SystemExit(f"cyclone-sse: {error}") from None


def _lifetime(word: str) -> float:
    try:
        return seconds(1)(word)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _parser(command: str, about: str) -> ArgumentParser:
    parser = ArgumentParser(prog=f"cyclone-sse {command}", description=about)
    parser.add_argument("--config", metavar="FILE", help="the server's file of options")
    return parser


def _settings(config: str | None, *words: str) -> Options:
    options = Options()
    options.parseOptions([*([f"--config={config}"] if config else []), *words])
    return options


def _message(word: str) -> str:
    return sys.stdin.read() if word == "-" else word


def _post(url: str, key: str | None, body: Mapping[str, Any]) -> tuple[int, str]:
    """Send one request to ``<url>/publish``. Raises OSError, HTTPException or ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected http://HOST or https://HOST")
    connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = connect(parts.hostname, parts.port, timeout=TIMEOUT)
    headers: dict[str, str | bytes] = {"Content-Type": "application/json"}
    headers |= {"Authorization": f"Bearer {key}".encode()} if key else {}
    try:
        connection.request("POST", f"{parts.path.rstrip('/')}/publish", json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()

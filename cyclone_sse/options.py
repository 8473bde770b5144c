"""Every option: its name, default, check and help text, in one table.

A value comes from the command line, else from the environment (``CYCLONE_SSE_HTTP_SECRET`` for
``--http-secret``), else it is the default. An empty value means "not set", so that a
configuration file can list every option. Whatever is wrong is one line and a non-zero exit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from twisted.python import usage

from cyclone_sse import __version__
from cyclone_sse.brokers import BROKERS

ENVIRONMENT = "CYCLONE_SSE_"


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table. read: from text to value, raises ValueError with what it expects."""

    name: str
    short: str | None
    default: str | None
    read: Callable[[str], Any]
    help: str


class _Default(str):
    """A default, to be told from the same value given by the user."""


def _text(value: str) -> str:
    return value


def _integer(low: int, high: int | None = None) -> Callable[[str], int]:
    def read(value: str) -> int:
        number = int(value) if value.isascii() and value.isdecimal() else -1
        if number < low or (high is not None and number > high):
            raise ValueError(f"expected a whole number from {low}" + (f" to {high}" if high else " up"))
        return number

    return read


def _seconds(least: float) -> Callable[[str], float]:
    def read(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not least <= number < float("inf"):
            raise ValueError(f"expected a number of seconds, at least {least:g}")
        return number

    return read


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return value

    return read


def _flag(value: str) -> bool:
    if value not in ("0", "1"):
        raise ValueError("expected 0 or 1")
    return value == "1"


def _origins(value: str) -> list[str]:
    origins = [origin.strip().rstrip("/") for origin in value.replace(" ", ",").split(",") if origin.strip()]
    for origin in origins:
        if origin not in ("*", "null") and "://" not in origin:
            raise ValueError("expected * or origins as https://www.example.com, separated by commas")
    return origins


_port = _integer(1, 65535)

OPTIONS = (
    Option("port", "p", "8888", _port, "TCP port to serve on"),
    Option("listen", "l", "127.0.0.1", _text, "interface to serve on"),
    Option("app", "r", None, _text, "dotted name of your own cyclone.web.Application subclass"),
    Option("use-ssl", None, "0", _flag, "1: serve TLS besides"),
    Option("ssl-port", None, "8443", _port, "TCP port to serve TLS on"),
    Option("ssl-listen", None, "127.0.0.1", _text, "interface to serve TLS on"),
    Option("ssl-cert", None, "server.crt", _text, "PEM file: the certificate, then its chain"),
    Option("ssl-key", None, "server.key", _text, "PEM file: the certificate's private key"),
    Option("broker", None, "http", _one_of(*BROKERS), f"where messages come from: {', '.join(BROKERS)}"),
    Option("http-secret", None, None, _text, "key that a POST to /publish must carry"),
    Option("http-publish", None, None, _flag, "1: serve /publish with any broker (the default with http)"),
    Option("redis-host", None, "127.0.0.1", _text, "host of Redis"),
    Option("redis-port", None, "6379", _port, "port of Redis"),
    Option("redis-username", None, None, _text, "user name for Redis"),
    Option("redis-password", None, None, _text, "password for Redis"),
    Option("redis-db", None, None, _integer(0), "database of Redis (pub/sub ignores it, its rules may not)"),
    Option("redis-tls", None, "0", _flag, "1: speak TLS with Redis"),
    Option("amqp-host", None, "127.0.0.1", _text, "host of RabbitMQ"),
    Option("amqp-port", None, "5672", _port, "port of RabbitMQ"),
    Option("amqp-vhost", None, "/", _text, "virtual host"),
    Option("amqp-spec", None, None, _text, "AMQP specification file [default: the one that comes along]"),
    Option("amqp-username", None, "guest", _text, "user name for RabbitMQ"),
    Option("amqp-password", None, "guest", _text, "password for RabbitMQ"),
    Option("amqp-exchange-name", None, "sse-cyclone-server", _text, "name of the exchange"),
    Option("amqp-exchange-type", None, "direct", _one_of("direct", "fanout", "topic"), "its type"),
    Option("amqp-channel", None, "1", _integer(1, 65535), "number of the AMQP channel"),
    Option("amqp-heartbeat", None, "30", _integer(0, 65535), "seconds between heartbeats, 0: none"),
    Option("linger", None, "60", _seconds(0), "seconds a subscription upstream outlives its last client"),
    Option("history-size", None, "100", _integer(0), "events kept for each channel"),
    Option("history-ttl", None, "300", _seconds(0), "seconds they are kept"),
    Option("history-bytes", None, str(64 * 2**20), _integer(0), "bytes kept for all channels together"),
    Option("client-buffer", None, str(2**20), _integer(1), "bytes that may wait for a slow client"),
    Option("ping-interval", None, "30", _seconds(0), "seconds of silence before a ping, 0: never"),
    Option("retry", None, "0", _integer(0), "milliseconds after which clients shall reconnect, 0: not said"),
    Option("max-body", None, str(2**20), _integer(1), "bytes of a request's body"),
    Option("cors-origin", None, "*", _origins, "origins whose pages may read"),
    Option("trust-proxy", None, "0", _flag, "1: take the client's address from X-Forwarded-For"),
    Option("demo", None, "0", _flag, "1: serve a page to try things at /demo, and /media/"),
    Option("log-level", None, "info", _one_of("info", "debug"), "debug: log each client that comes and goes"),
    Option("export", None, None, _one_of("graphite"), "where to send the numbers of subscribers: graphite"),
    Option("export-host", None, None, _text, "host to export to"),
    Option("export-port", None, None, _port, "UDP port to export to"),
    Option("export-interval", None, "60", _seconds(0.1), "seconds between exports"),
    Option("export-path", None, "cyclone-sse", _text, "start of the exported names"),
)


def _shown(row: Option) -> tuple[_Default | None, str]:
    """Twisted's own form of the default and the help; it says nothing about a missing default."""
    if row.default is None:
        return None, row.help if "default" in row.help else f"{row.help} [default: none]"
    return _Default(row.default), row.help


class Options(usage.Options):
    """The plugin's command line, a dict of values by their long names."""

    synopsis = "[options]"
    longdesc = (
        f"Each option can come from the environment: {ENVIRONMENT}HTTP_SECRET for --http-secret, "
        "and so on. The command line wins."
    )
    optParameters: ClassVar = [
        [row.name, row.short, *_shown(row)] for row in OPTIONS if row.name != "cors-origin"
    ]

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment
        super().__init__()

    opt_h = usage.Options.opt_help

    def opt_version(self) -> None:
        """Display the version of cyclone-sse and exit."""
        print(f"cyclone-sse {__version__}")
        raise SystemExit(0)

    def parseArgs(self, *words: str) -> None:
        """Take nothing but options. Raises UsageError."""
        if words:
            raise usage.UsageError(f"{words[0]!r} is not an option")

    def opt_cors_origin(self, origins: str) -> None:
        """origins whose pages may read, with commas or repeated [default: *]"""
        self["cors-origin"] = ",".join(filter(None, (self.get("cors-origin"), origins)))

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read a command line. Exits with one line about what is wrong: twistd itself would
        print all of its help, and exit as if all were well."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise SystemExit(f"cyclone-sse: {error}") from None

    def postOptions(self) -> None:
        """Turn every value into what it means. Raises UsageError."""
        for row in OPTIONS:
            self[row.name] = self._value(row)
        if self["export"] and not (self["export-host"] and self["export-port"]):
            raise usage.UsageError(f"--export={self['export']} needs --export-host and --export-port")

    def _value(self, row: Option) -> Any:
        source = f"--{row.name}"
        value = self.get(row.name)
        if not value or isinstance(value, _Default):
            variable = ENVIRONMENT + row.name.upper().replace("-", "_")
            inherited = self._environment.get(variable)
            if inherited:
                source, value = variable, inherited
            else:
                value = row.default
        if value is None:
            return None
        try:
            return row.read(value)
        except ValueError as error:
            raise usage.UsageError(f"{source}={value}: {error}") from None

"""Every option: its name, default, check and help text, in one table.

Plain Python at the bottom of the house, so that everything above can rely on the same defaults:
``with_defaults`` gives a custom application's few settings what they leave out. The command line
is read in ``daemon.command``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cyclone_sse.values import (
    addresses,
    flag,
    integer,
    one_of,
    origins,
    seconds,
    secret,
    spaced,
    text,
    url,
    words,
)

ENVIRONMENT = "CYCLONE_SSE_"
BROKERS = ("http", "redis", "redis-stream", "amqp")


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table.

    default: as text; "" is read as well, None is a value that is not set. read: from text to
    value, raises ValueError with what it expects. private: the value is shown nowhere.
    """

    name: str
    short: str | None
    default: str | None
    read: Callable[[str], Any]
    help: str
    private: bool = False

    @property
    def variable(self) -> str:
        """The environment's name for it."""
        return ENVIRONMENT + self.name.upper().replace("-", "_")


_port = integer(1, 65535)
_count = integer(0)

OPTIONS = (
    # where it listens
    Option("port", "p", "8888", integer(0, 65535), "TCP port to serve on, 0: none"),
    Option("listen", "l", "127.0.0.1", text, "interface to serve on"),
    Option(
        "endpoint",
        None,
        "",
        spaced,
        "where to serve in place of --port, in Twisted's words; repeatable",
    ),
    Option("reuse-port", None, "0", flag, "1: share the ports with other processes (SO_REUSEPORT)"),
    Option("workers", None, "1", integer(1, 1024), "processes that serve, on the same ports"),
    Option("use-ssl", None, "0", flag, "1: serve TLS besides"),
    Option("ssl-port", None, "8443", _port, "TCP port to serve TLS on"),
    Option("ssl-listen", None, "127.0.0.1", text, "interface to serve TLS on"),
    Option("ssl-cert", None, "server.crt", text, "PEM file: the certificate, then its chain"),
    Option("ssl-key", None, "server.key", text, "PEM file: the certificate's private key"),
    # what it serves
    Option("app", "r", None, text, "dotted name of your own cyclone.web.Application subclass"),
    Option("broker", None, "http", one_of(*BROKERS), f"where messages come from: {', '.join(BROKERS)}"),
    Option("http-secret", None, None, text, "key that a POST to /publish must carry", private=True),
    Option("http-publish", None, None, flag, "1: serve /publish (the default with http and redis-stream)"),
    Option("stats", None, "1", flag, "0: no /stats on the public ports"),
    Option("demo", None, "0", flag, "1: serve a page to try things at /demo, and /media/"),
    # brokers
    Option("redis-host", None, "127.0.0.1", text, "host of Redis"),
    Option("redis-port", None, "6379", _port, "port of Redis"),
    Option("redis-username", None, None, text, "user name for Redis"),
    Option("redis-password", None, None, text, "password for Redis", private=True),
    Option("redis-db", None, None, _count, "database of Redis (pub/sub ignores it, its rules may not)"),
    Option("redis-tls", None, "0", flag, "1: speak TLS with Redis"),
    Option(
        "redis-prefix",
        None,
        "",
        text,
        "what channels begin with in Redis, unseen by clients",
    ),
    Option("redis-sentinel", None, "", addresses, "HOST:PORT,... of the sentinels that know the master"),
    Option("redis-sentinel-name", None, "mymaster", text, "the master's name there"),
    Option("redis-stream", None, "cyclone-sse", text, "stream that the redis-stream broker reads"),
    Option("redis-stream-size", None, "100000", integer(1), "entries that are kept in it, about"),
    Option("amqp-host", None, "127.0.0.1", text, "host of RabbitMQ"),
    Option("amqp-port", None, "5672", _port, "port of RabbitMQ"),
    Option("amqp-vhost", None, "/", text, "virtual host"),
    Option("amqp-spec", None, None, text, "AMQP specification file [default: the one that comes along]"),
    Option("amqp-username", None, "guest", text, "user name for RabbitMQ"),
    Option("amqp-password", None, "guest", text, "password for RabbitMQ", private=True),
    Option("amqp-exchange-name", None, "sse-cyclone-server", text, "name of the exchange"),
    Option("amqp-exchange-type", None, "direct", one_of("direct", "fanout", "topic"), "its type"),
    Option("amqp-channel", None, "1", integer(1, 65535), "number of the AMQP channel"),
    Option("amqp-heartbeat", None, "30", integer(0, 65535), "seconds between heartbeats, 0: none"),
    Option(
        "linger",
        None,
        None,
        seconds(0),
        "seconds a subscription upstream outlives its last client, and the channel's history with it "
        "[default: history-ttl]",
    ),
    Option("patterns", None, "0", flag, "1: with redis, clients may subscribe to patterns as news.*"),
    # what is kept
    Option("history-size", None, "100", _count, "events kept for each channel"),
    Option("history-ttl", None, "300", seconds(0), "seconds they are kept"),
    Option("history-bytes", None, str(64 * 2**20), _count, "bytes kept for all channels together"),
    Option("history-file", None, None, text, "SQLite file in which events outlive the process (with http)"),
    # streams
    Option("ping-interval", None, "30", seconds(0), "seconds of silence before a ping, 0: never"),
    Option("retry", None, "0", _count, "milliseconds after which clients reconnect, about; 0: not said"),
    Option("max-age", None, "0", seconds(0), "seconds after which a stream is ended, about; 0: never"),
    Option("drain", None, "0", seconds(0), "seconds over which streams are ended when the server stops"),
    Option("poll-batch", None, "0", flag, "1: a long poll is given all it missed in one answer"),
    # bounds
    Option("client-buffer", None, str(2**20), integer(1), "bytes that may wait for a slow client"),
    Option(
        "stall-timeout", None, "60", seconds(0), "seconds for a client to take some of what waits, 0: ever"
    ),
    Option("max-body", None, str(2**20), integer(1), "bytes of a request's body"),
    Option("max-channels", None, "500", integer(1), "channels for one stream"),
    Option("max-patterns", None, "20", _count, "patterns for one stream"),
    Option("max-clients", None, "0", _count, "clients in all, 0: no limit"),
    Option("max-clients-per-ip", None, "0", _count, "clients of one address (IPv6: of a /64), 0: no limit"),
    # who may do what
    Option("cors-origin", None, "*", origins, "origins whose pages may read"),
    Option("trust-proxy", None, "0", flag, "1: take the client's address from X-Forwarded-For"),
    Option("public", None, "", words, "GLOB,... of channels that everybody may hear"),
    Option(
        "jwt-secret",
        None,
        None,
        secret(32),
        "secret of tokens (HS256/384/512), from 32 bytes",
        private=True,
    ),
    Option("jwt-keys", None, None, text, "file with the tokens' public keys: PEM, or a JWKS"),
    Option("jwt-issuer", None, None, text, "issuer (iss) that tokens must name"),
    Option("jwt-audience", None, None, text, "audience (aud) that tokens must name"),
    Option("jwt-cookie", None, "cyclone_sse_token", text, "cookie that may hold the token"),
    Option("auth-url", None, None, url, "URL of your application that decides who may hear what"),
    Option("auth-concurrency", None, "50", integer(1), "requests to it that are under way at most"),
    # to run it
    Option("admin-port", None, None, _port, "port for /healthz, /readyz, /metrics and /stats"),
    Option("admin-listen", None, "127.0.0.1", text, "interface for them"),
    Option("log-level", None, "info", one_of("info", "debug"), "debug: log each client that comes and goes"),
    Option("export", None, None, one_of("graphite"), "where to send the numbers of subscribers: graphite"),
    Option("export-host", None, None, text, "host to export to"),
    Option("export-port", None, None, _port, "UDP port to export to"),
    Option("export-interval", None, "60", seconds(0.1), "seconds between exports"),
    Option("export-path", None, "cyclone-sse", text, "start of the exported names"),
    Option("export-totals", None, "0", flag, "1: export the server's totals besides"),
    Option(
        "check",
        None,
        "0",
        flag,
        "1: read options and files, say what is wrong or would be done, exit",
    ),
)

DEFAULTS: Mapping[str, Any] = {
    row.name: None if row.default is None else row.read(row.default) for row in OPTIONS
}

# Defaults that follow from other options.
DERIVED: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "linger": lambda settings: settings["history-ttl"],
    # Redis pub/sub and AMQP have publishers of their own, and give no ids.
    "http-publish": lambda settings: settings["broker"] in ("http", "redis-stream"),
}


def with_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings: those given, as values that were read, and the defaults of all others.

    None is "not set", and so is given its default.
    """
    merged = {**DEFAULTS, **{name: value for name, value in settings.items() if value is not None}}
    for name, derive in DERIVED.items():
        if merged[name] is None:
            merged[name] = derive(merged)
    return merged

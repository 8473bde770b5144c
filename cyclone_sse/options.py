"""The table of options: name, default, check and help text of each.

Plain Python that every other module may import, so that all of them use the same defaults:
``with_defaults`` completes the few settings of a custom application. ``daemon.command_line``
reads the command line.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cyclone_sse.broker_urls import amqp_url, redis_url
from cyclone_sse.values import (
    addresses,
    cookie_name,
    file_or_url,
    flag,
    host_name,
    integer,
    one_of,
    origins,
    path,
    proxies,
    seconds,
    secret,
    server_url,
    spaced,
    text,
    words,
)

ENVIRONMENT = "CYCLONE_SSE_"
WORKER_VARIABLE = f"{ENVIRONMENT}WORKER"  # set for worker processes; no option has this name
BROKERS = ("http", "redis", "redis-stream", "amqp")


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table.

    default: as text, which may be ""; None means "not set". read: turns the text into the value, raises
    ValueError with what it expects. private: the value is never shown or logged. short: its letter
    on the command line, if it has one.
    """

    name: str
    default: str | None
    read: Callable[[str], Any]
    help: str
    private: bool = False
    short: str | None = None

    @property
    def variable(self) -> str:
        """The name of the environment variable."""
        return ENVIRONMENT + self.name.upper().replace("-", "_")


_port = integer(1, 65535)
_count = integer(0)

OPTIONS = (
    # ports
    Option("port", "8888", integer(0, 65535), "TCP port to serve on; 0: none", short="p"),
    Option("listen", "127.0.0.1", text, "network interface to serve on", short="l"),
    Option("endpoint", "", spaced, "Twisted endpoint to serve on, instead of --port; repeatable"),
    Option("reuse-port", "0", flag, "1: share the ports with other processes (SO_REUSEPORT)"),
    Option("workers", "1", integer(1, 1024), "number of processes that serve on the same ports"),
    Option("use-ssl", "0", flag, "1: also serve TLS"),
    Option("ssl-port", "8443", _port, "TCP port to serve TLS on"),
    Option("ssl-listen", "127.0.0.1", text, "network interface to serve TLS on"),
    Option("ssl-cert", "server.crt", path, "PEM file with the certificate and its chain"),
    Option("ssl-key", "server.key", path, "PEM file with the private key of the certificate"),
    # the application
    Option("app", None, text, "dotted name of your own cyclone.web.Application subclass", short="r"),
    Option("broker", "http", one_of(*BROKERS), f"where messages come from: {', '.join(BROKERS)}"),
    Option(
        "http-secret", None, text, "key that publishers must send, in the header or in the body", private=True
    ),
    Option("http-secret-file", None, path, "file with publishing keys, one on each line, all of them valid"),
    Option(
        "http-publish",
        None,
        flag,
        "1: serve /publish [default: 1 with the brokers http and redis-stream, unless channels are private "
        "and there is neither a key nor a token rule; else 0]",
    ),
    Option("stats", "1", flag, "0: do not serve /stats on the public ports"),
    Option("demo", "0", flag, "1: serve a demo page at /demo, and its scripts at /media/"),
    # brokers
    Option(
        "redis-url",
        None,
        redis_url,
        "redis://, rediss:// (TLS) or unix:// URL of Redis, instead of the options for host, login and TLS",
        private=True,
    ),
    Option("redis-host", "127.0.0.1", text, "host of Redis"),
    Option("redis-port", "6379", _port, "port of Redis"),
    Option("redis-username", None, text, "user name for Redis"),
    Option("redis-password", None, text, "password for Redis", private=True),
    Option("redis-db", None, _count, "database of Redis (pub/sub is the same in all databases)"),
    Option("redis-tls", "0", flag, "1: connect to Redis with TLS"),
    Option("redis-prefix", "", text, "prefix of all channels in Redis; clients do not see it"),
    Option("redis-sentinel", "", addresses, "HOST:PORT,... of the sentinels that watch the master"),
    Option("redis-sentinel-name", "mymaster", text, "name by which the sentinels know the master"),
    Option("redis-sentinel-password", None, text, "password of the sentinels", private=True),
    Option("redis-stream", "cyclone-sse", text, "stream that the redis-stream broker reads"),
    Option("redis-stream-size", "100000", integer(1), "approximate number of entries kept in the stream"),
    Option(
        "amqp-url",
        None,
        amqp_url,
        "amqp:// or amqps:// (TLS) URL of RabbitMQ, instead of the options for host, login and virtual host",
        private=True,
    ),
    Option("amqp-host", "127.0.0.1", text, "host of RabbitMQ"),
    Option("amqp-port", "5672", _port, "port of RabbitMQ"),
    Option("amqp-vhost", "/", text, "virtual host of RabbitMQ"),
    Option("amqp-spec", None, path, "AMQP specification file [default: the one in the package]"),
    Option("amqp-username", "guest", text, "user name for RabbitMQ"),
    Option("amqp-password", "guest", text, "password for RabbitMQ", private=True),
    Option("amqp-exchange-name", "sse-cyclone-server", text, "name of the exchange"),
    Option(
        "amqp-exchange-type",
        "direct",
        one_of("direct", "fanout", "topic"),
        "type of the exchange: direct, fanout or topic",
    ),
    Option("amqp-channel", "1", integer(1, 65535), "number of the AMQP channel"),
    Option("amqp-heartbeat", "30", integer(0, 65535), "seconds between AMQP heartbeats; 0: none"),
    Option(
        "linger",
        None,
        seconds(0),
        "seconds for which a channel stays subscribed without clients [default: --history-ttl]",
    ),
    Option("broker-ca", None, path, "PEM file with the CA of the broker's certificate"),
    Option("broker-cert", None, path, "PEM file with the certificate to present to the broker"),
    Option("broker-key", None, path, "PEM file with the private key of --broker-cert"),
    Option("patterns", "0", flag, "1: clients may subscribe to patterns such as news.*"),
    # history
    Option("history-size", "100", _count, "number of events kept for each channel"),
    Option("history-ttl", "300", seconds(0), "seconds for which events are kept"),
    Option(
        "history-bytes", str(64 * 2**20), _count, "maximum bytes of events kept for all channels together"
    ),
    Option("history-file", None, path, "SQLite file that keeps the history over a restart (broker http)"),
    Option("idempotency-ttl", "300", seconds(0), "seconds for which an Idempotency-Key is remembered"),
    # kinds of channel, and who is there
    Option("state-bytes", str(64 * 2**20), _count, "maximum bytes of the states of all channels together"),
    Option("channels", None, path, "TOML file with the kinds of channel, by glob"),
    Option("presence-grace", "10", seconds(0), "seconds for which users without a stream stay members"),
    Option("presence-url", None, server_url, "URL to which users who join and leave are POSTed"),
    Option(
        "presence-max", "1000", _count, "maximum number of listed members; above it, only the number is sent"
    ),
    # streams
    Option(
        "ping-interval", "30", seconds(0), "seconds of silence before a ping is sent to a client; 0: no pings"
    ),
    Option(
        "retry",
        "0",
        integer(0, 3_600_000),
        "reconnection time sent to clients, in ms (each gets 50 to 150 %); 0: none",
    ),
    Option("max-age", "0", seconds(0), "seconds after which a stream is ended (within 10 %); 0: no limit"),
    Option("drain", "0", seconds(0), "seconds over which streams are ended when the server stops"),
    Option(
        "drain-delay",
        "0",
        seconds(0),
        "seconds for which a stopping server still accepts clients while /readyz answers 503",
    ),
    Option("poll-batch", "0", flag, "1: answer a long poll with all missed events, not only the first"),
    # limits
    Option("client-buffer", str(2**20), integer(1), "maximum bytes that wait for a slow client"),
    Option(
        "stall-timeout",
        "60",
        seconds(0),
        "seconds without progress before a slow client is cut off; 0: no limit",
    ),
    Option("max-body", str(2**20), integer(1), "largest request body, in bytes"),
    Option("max-batch", "10000", integer(1), "maximum number of events in one request to publish"),
    Option("idle-timeout", "75", seconds(1), "seconds that an idle connection is kept for another request"),
    Option("max-channels", "500", integer(1), "maximum number of channels of one stream"),
    Option("max-patterns", "20", _count, "maximum number of patterns of one stream"),
    Option(
        "max-patterns-total", "1000", _count, "maximum number of different patterns of all streams together"
    ),
    Option(
        "max-clients",
        None,
        _count,
        "maximum number of clients; 0: no limit [default: limit of open files - 256, at least half of it]",
    ),
    Option(
        "max-clients-per-ip",
        "0",
        _count,
        "maximum number of clients of one address (IPv6: of one /64); 0: no limit",
    ),
    # access
    Option("cors-origin", "*", origins, "origins whose pages may read streams, separated by commas; *: all"),
    Option(
        "trust-proxy",
        "0",
        proxies,
        "trust the X-Forwarded-... headers: 1: of any proxy, the client is the last address in them; "
        "NETWORK,...: of proxies in these networks, the client is the last address outside of the networks",
    ),
    Option("public", "", words, "GLOB,... of the channels to which every client may subscribe"),
    Option(
        "jwt-secret",
        None,
        secret(32),
        "secret that signs tokens (HS256, HS384, HS512), at least 32 bytes",
        private=True,
    ),
    Option(
        "jwt-secret-file",
        None,
        path,
        "file with secrets that sign tokens, one on each line, all of them valid",
    ),
    Option(
        "jwt-keys",
        None,
        file_or_url,
        "file with the public keys that verify tokens: PEM or JWKS; or the URL of a JWKS",
    ),
    Option("jwt-issuer", None, text, "issuer (iss) that tokens must name"),
    Option("jwt-audience", None, text, "audience (aud) that tokens must name"),
    Option("jwt-cookie", "cyclone_sse_token", cookie_name, "name of the cookie that may hold the token"),
    Option("auth-url", None, server_url, "URL in your application that decides which clients may subscribe"),
    Option("auth-host", None, host_name, "Host header of requests to --auth-url [default: the URL's own]"),
    Option("auth-concurrency", "50", integer(1), "maximum number of requests to --auth-url at the same time"),
    # operation
    Option("config", None, path, "file of options, one name=value on each line; # starts a comment"),
    Option("admin-port", None, _port, "port for the operator's page, /healthz, /readyz, /metrics and /stats"),
    Option("admin-listen", "127.0.0.1", text, "network interface of the admin port"),
    Option("log-level", "info", one_of("info", "debug"), "info, or debug: also log each client"),
    Option("export", None, one_of("graphite"), "where to export the numbers of subscribers: graphite"),
    Option("export-host", None, text, "host to export to"),
    Option("export-port", None, _port, "UDP port to export to"),
    Option("export-interval", "60", seconds(0.1), "seconds between two exports"),
    Option("export-path", "cyclone-sse", text, "prefix of the exported names"),
    Option("export-totals", "0", flag, "1: also export the totals of the server"),
    Option(
        "check",
        "0",
        flag,
        "1: check options, files, ports and brokers, report mistakes or the plan, and exit",
    ),
)

DEFAULTS: Mapping[str, Any] = {
    row.name: None if row.default is None else row.read(row.default) for row in OPTIONS
}


def most_clients(open_files: int) -> int:
    """The number of clients that this limit of open files allows; 0: no limit. open_files: -1 is no limit.

    Without the reserve for other requests, publishers would wait until a client leaves.
    """
    return 0 if open_files < 0 else open_files - min(256, open_files // 2)


# Defaults that follow from other options, or from the process; the help texts name them.
DERIVED: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "linger": lambda settings: settings["history-ttl"],
    # The hard limit, to which the server raises its own at the start.
    "max-clients": lambda _: most_clients(resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
    # Publishers of Redis pub/sub and AMQP usually publish there.
    # Where channels are private, publishing to them must not be open to every client by default.
    "http-publish": lambda settings: (
        settings["broker"] in ("http", "redis-stream")
        and (has_publisher_rule(settings) or not has_subscriber_rule(settings))
    ),
}

TOKEN_RULES = ("jwt-secret", "jwt-secret-file", "jwt-keys")
SUBSCRIBER_RULES = (*TOKEN_RULES, "auth-url")
PUBLISHER_RULES = ("http-secret", "http-secret-file", *TOKEN_RULES)


def has_token_rule(settings: Mapping[str, Any]) -> bool:
    """Whether tokens are accepted."""
    return any(settings[name] for name in TOKEN_RULES)


def has_subscriber_rule(settings: Mapping[str, Any]) -> bool:
    """Whether channels are private, except those of ``--public``."""
    return any(settings[name] for name in SUBSCRIBER_RULES)


def has_publisher_rule(settings: Mapping[str, Any]) -> bool:
    """Whether there is a key or a token that identifies publishers."""
    return any(settings[name] for name in PUBLISHER_RULES)


def with_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings: the given values, and the defaults of all other options.

    None means "not set" and is replaced by the default.
    """
    merged = {**DEFAULTS, **{name: value for name, value in settings.items() if value is not None}}
    for url in (merged["redis-url"], merged["amqp-url"]):
        merged.update(url or {})  # host, login and TLS from the URL
    for name, derive in DERIVED.items():
        if merged[name] is None:
            merged[name] = derive(merged)
    return merged

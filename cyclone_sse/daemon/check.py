"""``--check=1``: everything that the start would find wrong, all at once; or what it would do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from cyclone_sse.daemon.command_line import Options, as_lines
from cyclone_sse.daemon.log_file import open_log
from cyclone_sse.daemon.sockets import Bound, open_sockets


def check(options: Options, build: Callable[[Mapping[str, Any]], object], reactor: Any) -> NoReturn:
    """Exit with a line for each mistake; if there is none, say what would be done, and exit with 0."""
    bound: list[Bound] = []
    probes: list[Callable[[], object]] = [
        partial(build, {**options, "use-ssl": False}),
        partial(_read_keys, options),
        partial(_read_certificate, options),
        partial(_read_history, options),
        lambda: bound.extend(_bind(options, reactor)),
        lambda: open_log(options.parent) if options.parent else None,
    ]
    mistakes = list(options.mistakes)
    for probe in probes:
        try:
            probe()
        except (ValueError, ImportError) as error:
            mistakes.append(str(error))
    addresses = [each.url for each in bound]
    for each in bound:
        each.unlink()
        each.socket.close()
    if mistakes:
        raise SystemExit(as_lines(dict.fromkeys(mistakes)))
    for line in plan(options, addresses):
        print(line)
    raise SystemExit(0)


def _read_keys(options: Mapping[str, Any]) -> None:
    """Once more: a broker that cannot be made keeps the application from looking at them."""
    from cyclone_sse.access.rules import Rules

    Rules(options)


def _read_certificate(options: Mapping[str, Any]) -> None:
    if options["use-ssl"]:
        from cyclone_sse.daemon.tls import tls_context

        tls_context(options["ssl-cert"], options["ssl-key"])


def _read_history(options: Mapping[str, Any]) -> None:
    """Open the file, as its server would; where there is none yet, leave none behind."""
    if not options["history-file"]:
        return
    from cyclone_sse.delivery.events import EventIds
    from cyclone_sse.delivery.journal_file import JournalError, JournalFile

    path = Path(options["history-file"])
    is_new = not path.exists()
    try:
        JournalFile(str(path), EventIds(time.time).now()).close()
    except JournalError as error:
        raise ValueError(f"--history-file={error}") from None
    if is_new:
        path.unlink()


def _bind(options: Mapping[str, Any], reactor: Any) -> list[Bound]:
    """The ports, bound as at the start; systemd's sockets are there only when it starts the server."""
    own = [each for each in options["endpoint"] if not each.startswith("systemd:")]
    port = 0 if options["endpoint"] else options["port"]
    return open_sockets({**options, "endpoint": own, "port": port}, None, reactor)


def plan(options: Mapping[str, Any], addresses: list[str]) -> Iterator[str]:
    """What the server would do with these options, a line for each part of it."""
    handed = [each for each in options["endpoint"] if each.startswith("systemd:")]
    yield f"would serve {' and '.join([*addresses, *handed])}"
    workers = f" with {options['workers']} workers" if options["workers"] > 1 else ""
    yield f"broker: {options['broker']}{workers}; application: {options['app'] or 'the built-in one'}"
    kept = options["history-file"] or (
        "the Redis stream" if options["broker"] == "redis-stream" else "memory"
    )
    yield f"history: {options['history-size']} events a channel for {options['history-ttl']:g} s, in {kept}"
    yield f"to subscribe: {_who(options, 'jwt-secret', 'jwt-keys', 'auth-url')}"
    from cyclone_sse.daemon.exposure import warnings

    publishers = "nobody, without --http-publish=1"
    if options["http-publish"]:
        publishers = _who(options, "http-secret", "jwt-secret", "jwt-keys")
    yield f"to publish by HTTP: {publishers}"
    if options["export"]:
        where = f"{options['export-host']}:{options['export-port']}"
        yield f"exports to {where} every {options['export-interval']:g} s"
    yield from (f"warning: {line}" for line in warnings(options))


def _who(options: Mapping[str, Any], *rules: str) -> str:
    needed = [f"--{rule}" for rule in rules if options[rule]]
    return f"by {' or '.join(needed)}" if needed else "everybody"

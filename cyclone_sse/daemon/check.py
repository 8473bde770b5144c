"""``--check=1``: all mistakes that the start would find, or a description of what the server would do.

The check can run beside the live server: ports and files that the live server uses are not opened, but
reported as in use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from cyclone_sse.access.rules import Rules
from cyclone_sse.daemon.command_line import Options, as_lines
from cyclone_sse.daemon.exposure import publishers, subscribers, warnings
from cyclone_sse.daemon.log_file import open_log
from cyclone_sse.daemon.probes import run_probes
from cyclone_sse.daemon.sockets import (
    ADMIN,
    HTTP,
    HTTPS,
    AddressInUse,
    Bound,
    bind,
    is_same_port,
    open_sockets,
    port_url,
)
from cyclone_sse.daemon.tls import expiry_warning, tls_context
from cyclone_sse.delivery.events import EventIds
from cyclone_sse.delivery.journal_file import JournalError, JournalFile
from cyclone_sse.values import Address

_IN_USE = "in use by the running server, or by another program"


@dataclass
class Findings:
    """What a check has found so far."""

    mistakes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    bound: list[tuple[Address | None, str]] = field(default_factory=list)  # addresses and URLs so far

    def note(self, probe: Callable[[], object]) -> Any:
        """Call the probe, and record the mistake that it raises. Returns the result of the probe."""
        try:
            return probe()
        except (ValueError, ImportError) as error:
            self.mistakes.append(str(error))
            return None


def check(options: Options, build: Callable[[Mapping[str, Any]], Any], reactor: Any) -> NoReturn:
    """Exit with a line for each mistake; if there is none, print what would be done, and exit with 0.

    build: makes the application of the options.
    """
    found = Findings(list(options.mistakes))
    built = found.note(lambda: build({**options, "use-ssl": False}))
    found.note(lambda: Rules(options))  # Also if the application, which has rules itself, cannot be made.
    found.note(lambda: _check_certificate(options, found))
    found.note(lambda: _check_history(options, found))
    found.note(lambda: open_log(options.parent) if options.parent else None)
    _check_ports(options, reactor, found)
    if not found.mistakes:
        broker = built[0].broker if built and options["broker"] != "http" else None
        probed = run_probes(options, broker, reactor)
        found.mistakes += probed.mistakes
        found.warnings += probed.warnings
    if found.mistakes:
        raise SystemExit(as_lines(dict.fromkeys(found.mistakes)))
    for line in plan(options, found.addresses):
        print(line)
    for line in found.warnings:
        print(f"warning: {line}")
    raise SystemExit(0)


def _check_certificate(options: Mapping[str, Any], found: Findings) -> None:
    if options["use-ssl"]:
        tls_context(options["ssl-cert"], options["ssl-key"])
        found.warnings += expiry_warning(options["ssl-cert"], time.time())


def _check_history(options: Mapping[str, Any], found: Findings) -> None:
    """Open the file as the server would, and remove it if it did not exist before."""
    if not options["history-file"]:
        return
    path = Path(options["history-file"])
    is_new = not path.exists()
    try:
        JournalFile(str(path), EventIds(time.time).now()).close()
    except JournalError as error:
        if not error.is_in_use:
            raise ValueError(f"--history-file={error}") from None
        found.warnings.append(f"--history-file={path} is {_IN_USE}")
    if is_new:
        path.unlink()


def _check_ports(options: Mapping[str, Any], reactor: Any, found: Findings) -> None:
    ports = [(HTTP, options["listen"], 0 if options["endpoint"] else options["port"])]
    ports.append((HTTPS, options["ssl-listen"], options["ssl-port"] if options["use-ssl"] else 0))
    for serves, host, port in ports:
        if port:
            _check_port(found, serves, host, port)
    for endpoint in options["endpoint"]:
        if endpoint.startswith("systemd:"):
            found.addresses.append(endpoint)  # its socket is there only when systemd starts the server
        else:
            _check_endpoint(found, endpoint, options, reactor)
    if options["admin-port"]:
        for number in range(options["workers"]):
            _check_port(found, ADMIN, options["admin-listen"], options["admin-port"] + number)


def _check_port(found: Findings, serves: str, host: str, port: int) -> None:
    try:
        bound = [Bound(each, serves) for each in bind(host, port)]
    except AddressInUse:
        address = port_url(serves, host, port)
        found.warnings.append(f"{address} is {_IN_USE}")
        found.addresses.append(address)
    except ValueError as error:
        found.mistakes.append(str(error))
    else:
        _close(bound, found)


def _check_endpoint(found: Findings, endpoint: str, options: Mapping[str, Any], reactor: Any) -> None:
    wanted = {**options, "endpoint": [endpoint], "port": 0, "use-ssl": False, "admin-port": None}
    try:
        bound = open_sockets(wanted, None, reactor)
    except AddressInUse:
        found.warnings.append(f"--endpoint={endpoint} is {_IN_USE}")
        found.addresses.append(endpoint)
    except ValueError as error:
        found.mistakes.append(str(error))
    else:
        _close(bound, found)


def _close(bound: Iterable[Bound], found: Findings) -> None:
    for each in bound:
        found.addresses.append(each.url)
        _note_port(each, found)
        each.unlink()
        each.socket.close()


def _note_port(bound: Bound, found: Findings) -> None:
    """Note a mistake if two options name one port. The check closes each socket before it binds the next."""
    for address, url in found.bound:
        if is_same_port(address, bound.address):
            found.mistakes.append(f"{bound.url} and {url}: two options name the same port")
    found.bound.append((bound.address, bound.url))


def plan(options: Mapping[str, Any], addresses: list[str]) -> Iterator[str]:
    """Describe what the server would do with these options, one line for each part."""
    yield f"would serve {' and '.join(addresses)}"
    workers = f" with {options['workers']} workers" if options["workers"] > 1 else ""
    yield f"broker: {options['broker']}{workers}; application: {options['app'] or 'the built-in one'}"
    kept = options["history-file"] or (
        "the Redis stream" if options["broker"] == "redis-stream" else "memory"
    )
    size, ttl = options["history-size"], options["history-ttl"]
    yield f"history: {size} events for each channel, for {ttl:g} s, in {kept}"
    yield f"subscribing: {subscribers(options)}"
    yield f"publishing by HTTP: {publishers(options)}"
    if options["export"]:
        where = f"{options['export-host']}:{options['export-port']}"
        yield f"exports to {where} every {options['export-interval']:g} s"
    yield from (f"warning: {line}" for line in warnings(options))

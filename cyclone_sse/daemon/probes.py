"""The servers that ``--check=1`` tries: the broker, the application, and the keys of tokens by URL.

Each is tried with the same code as in the live server, so that the result is the same, and the reason of a
failure is the line that the log would have. A broker that connects may still log errors, such as a right that
the account does not have: these are warnings. Nothing is published or changed, and no client is affected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

from cyclone_sse.access.auth_url import AuthUrl
from cyclone_sse.access.key_url import KeyUrl
from cyclone_sse.brokers.base import Broker
from cyclone_sse.brokers.link import text_of
from cyclone_sse.brokers.upstream import STILL_TRYING, UpstreamBroker
from cyclone_sse.errors import Refusal
from cyclone_sse.http.headers import Headers
from cyclone_sse.values import is_url

PROBE_PATIENCE = 6.0  # seconds: a second more than the broker and the application get
_INTERVAL = 0.05  # seconds between two looks at the broker
_CHANNEL = "cyclone-sse-check"  # asked for; the application may well refuse it


@dataclass(slots=True)
class Probed:
    """What was found: one line for each failure, and for each error of a server that answers."""

    mistakes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(slots=True)
class CheckRequest:
    """A request from this machine, in place of a client's."""

    headers: Headers = field(default_factory=Headers)
    remote_ip: str = "127.0.0.1"
    public_host: str = "localhost"
    public_scheme: str = "http"


@contextmanager
def collected_errors() -> Iterator[list[str]]:
    """Collect the lines that would be errors in the log."""
    lines: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            line = formatEvent(event)
            if line not in lines:
                lines.append(line)

    globalLogPublisher.addObserver(observe)
    try:
        yield lines
    finally:
        globalLogPublisher.removeObserver(observe)


async def probe_broker(broker: Broker, reactor: IReactorTime) -> Probed:
    """Connect the broker as the start does; returns the reason of a failure, or the errors of a success."""
    if isinstance(broker, UpstreamBroker):
        broker.only_checks = True
    with collected_errors() as lines:
        failures: list[str] = []
        # Not awaited: the Deferred of redis-stream never fires while Redis is away.
        connecting = maybeDeferred(broker.connect)
        connecting.addErrback(lambda failure: failures.append(failure.getErrorMessage()))
        end = reactor.seconds() + PROBE_PATIENCE
        is_well = False
        while not (is_well or failures or _failed(lines)) and reactor.seconds() < end:
            await deferLater(reactor, _INTERVAL)
            is_well = connecting.called and broker.available and not failures
        if is_well and isinstance(broker, UpstreamBroker):
            try:
                await broker.connect_publisher()
            except Exception as error:
                is_well = False
                failures.append(f"{broker.server}: messages cannot be published: {text_of(error)}")
        errors = [f"--broker={broker.name}: {line.removesuffix(STILL_TRYING)}" for line in lines]
        await maybeDeferred(broker.disconnect)
    if is_well:
        return Probed(warnings=errors)
    reason = next(iter(failures or _failed(lines) or lines), "no answer in time")
    return Probed([f"--broker={broker.name}: {reason.removesuffix(STILL_TRYING)}"])


def _failed(lines: list[str]) -> list[str]:
    """Those of these lines after which there is no connection."""
    return [line for line in lines if line.endswith(STILL_TRYING)]


async def probe_auth_url(settings: Mapping[str, Any], reactor: IReactorTime) -> str | None:
    """Ask the application about a channel; returns the reason why there is no decision, or None."""
    auth_url = AuthUrl(settings["auth-url"], 1, host=settings["auth-host"], reactor=reactor)
    with collected_errors() as lines:
        try:
            await auth_url.ask(CheckRequest(), [_CHANNEL])
        except Refusal as refusal:
            if refusal.status == 503:
                return f"--auth-url: {lines[0] if lines else refusal.reason}"
    return None


async def probe_keys(url: str, reactor: IReactorTime) -> str | None:
    """Fetch the keys of tokens; returns the reason of a failure, or None."""
    keys = KeyUrl(url, reactor)
    with collected_errors() as lines:
        await maybeDeferred(keys.refresh)
    return None if keys.keys else f"--jwt-keys: {lines[0] if lines else 'no answer in time'}"


async def probe_upstreams(settings: Mapping[str, Any], broker: Broker | None, reactor: Any) -> Probed:
    """Try the servers that these settings name."""
    found = Probed() if broker is None else await probe_broker(broker, reactor)
    failures = []
    if settings["auth-url"]:
        failures.append(await probe_auth_url(settings, reactor))
    if is_url(settings["jwt-keys"]):
        failures.append(await probe_keys(settings["jwt-keys"], reactor))
    found.mistakes += [line for line in failures if line]
    return found


def run_probes(settings: Mapping[str, Any], broker: Broker | None, reactor: Any) -> Probed:
    """Run the reactor until all servers have been tried. broker: None if there is nothing to connect to."""
    if broker is None and not settings["auth-url"] and not is_url(settings["jwt-keys"]):
        return Probed()
    # Without this, a signal before the end would make the check report success.
    found = [Probed(["the check was interrupted"])]

    def finish(result: Any) -> None:
        is_complete = isinstance(result, Probed)
        found[0] = result if is_complete else Probed([f"the check failed: {result.getErrorMessage()}"])
        with suppress(ReactorNotRunning):  # after a signal
            reactor.stop()

    def start() -> None:
        Deferred.fromCoroutine(probe_upstreams(settings, broker, reactor)).addBoth(finish)

    reactor.callWhenRunning(start)
    reactor.run()
    return found[0]

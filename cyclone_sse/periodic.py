"""Statistics for Graphite: the numbers of subscribers of channels, at regular intervals.

Carbon's plaintext protocol over UDP: ``<path> <value> <unix time>`` lines. UDP, because the server must not
depend on a statistics server. Very many channels are counted in slices.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from itertools import islice
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyclone_sse.brokers import Broker
from cyclone_sse.reactors import reactor_or_global
from cyclone_sse.slices import Slices, each, finish, finish_in_turns

EXPORT_INTERVAL = 60.0  # seconds
# Bytes of a datagram: the least MTU of IPv6 (1280) less its header (40) and UDP's (8).
DATAGRAM = 1232

CHANNELS_AT_ONCE = 2000  # channels counted in one turn: about 5 ms
DATAGRAMS_AT_ONCE = 500  # sent in one turn

_NOT_A_PATH_PART = re.compile(r"[^A-Za-z0-9_-]")


class UdpExport(Service):
    """Sends what ``prepare`` returns to ``export-host``:``export-port`` every ``export-interval`` seconds.

    broker: whose figures. settings: the options. reactor: clock and network, the global one if None.
    """

    log = Logger()

    def __init__(self, broker: Broker, settings: Mapping[str, Any], reactor: Any = None) -> None:
        reactor = reactor_or_global(reactor)
        self.broker = broker
        self.settings = settings
        self.reactor = reactor
        self.protocol = DatagramProtocol()
        self.protocol.noisy = False  # Without this it logs its address in memory at each start.
        self._call = LoopingCall(self.export)
        self._call.clock = reactor
        self._failing = False
        self._queue = Slices(reactor)

    def prepare(self) -> list[bytes]:
        """Make the datagrams to send now, none if there is nothing to export. For subclasses."""
        raise NotImplementedError

    def startService(self) -> None:
        """Start exporting, the first time after one interval."""
        super().startService()
        self.reactor.listenUDP(0, self.protocol)
        self._call.start(self.settings.get("export-interval") or EXPORT_INTERVAL, now=False)

    async def _stop(self) -> None:
        if self._call.running:
            self._call.stop()
        if self.protocol.transport is not None:
            await maybeDeferred(self.protocol.transport.stopListening)

    def stopService(self) -> Deferred[None]:
        """Stop exporting."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def export(self) -> Deferred[None]:
        """Send the present figures. Fires when they are sent, or could not be sent."""
        return Deferred.fromCoroutine(self._export()).addErrback(self._failed)

    async def _export(self) -> None:
        made = self.prepare_in_turns()
        datagrams = await made if isinstance(made, Deferred) else made
        if not datagrams or self.protocol.transport is None:
            return
        # Each time: without this, figures would be sent to an old address of the name.
        address = await self.reactor.resolve(self.settings["export-host"])

        def send(datagram: bytes) -> None:
            if self.protocol.transport is not None:
                self.protocol.transport.write(datagram, (address, self.settings["export-port"]))

        work = each(datagrams, send, DATAGRAMS_AT_ONCE)
        await self._queue.add(work)
        self._failing = False

    def prepare_in_turns(self) -> list[bytes] | Deferred[list[bytes]]:
        """The result of ``prepare``, or a Deferred of it if that takes several turns of the reactor."""
        return self.prepare()

    def _failed(self, failure: Failure) -> None:
        if not self._failing:  # logged once, not at each interval
            self._failing = True
            self.log.error("could not export: {reason}", reason=failure.getErrorMessage())


class GraphiteExport(UdpExport):
    """``<export-path>.<channel> <subscribers> <unix time>`` for each channel; and with ``export-totals``
    ``<export-path>.total.<figure>`` for the server as a whole."""

    clock: Callable[[], float] = staticmethod(time.time)

    def prepare(self) -> list[bytes]:
        """Make the lines of all channels, in datagrams that no network needs to split."""
        return finish(self._work())

    def prepare_in_turns(self) -> list[bytes] | Deferred[list[bytes]]:
        """The same in slices, unless a subclass overrides ``prepare``."""
        if type(self).prepare is not GraphiteExport.prepare:
            return self.prepare()
        return finish_in_turns(self._work(), self._queue)

    def _work(self) -> Generator[None, None, list[bytes]]:
        prefix = self.settings.get("export-path") or "cyclone-sse"
        now = int(self.clock())
        totals: dict[str, int] = {}
        rows = self._rows()
        while chunk := list(islice(rows, CHANNELS_AT_ONCE)):
            for channel, subscribers in chunk:
                name = path_part(channel)
                totals[name] = totals.get(name, 0) + subscribers
            if len(chunk) == CHANNELS_AT_ONCE:
                yield
        if self.settings.get("export-totals"):
            totals |= {f"total.{name}": value for name, value in self._figures().items()}
        datagrams: list[bytes] = []
        remaining = iter(totals.items())
        while part := list(islice(remaining, CHANNELS_AT_ONCE)):
            datagrams += _packed([f"{prefix}.{name} {total} {now}\n".encode() for name, total in part])
            if len(part) == CHANNELS_AT_ONCE:
                yield
        return datagrams

    def _rows(self) -> Iterator[tuple[str, int]]:
        if type(self.broker).stats is not Broker.stats:
            return iter(self.broker.stats())  # a custom broker's own figures
        return self.broker.hub.channels.stats_of()

    def _figures(self) -> dict[str, int]:
        hub = self.broker.hub
        counters = hub.counters
        return {
            "subscribers": len(hub.clients),
            "channels": len(hub.channels),
            "history_events": hub.history.events,
            "history_bytes": hub.history.bytes,
            "events": counters.events,
            "deliveries": counters.deliveries,
            "sent_bytes": counters.sent_bytes,
            "subscribes": counters.subscribes,
            "disconnects": counters.disconnects.total(),
            "refusals": counters.refusals.total(),
            "broker_reconnects": counters.broker_reconnects,
        }


def path_part(channel: str) -> str:
    """Turn a channel's name into one part of a Graphite path.

    A dot would make a new level, and most other characters mean something to Graphite or to the
    file system below it; all of these become underscores.
    """
    return _NOT_A_PATH_PART.sub("_", channel)[:200] or "_"


def _packed(lines: list[bytes]) -> Iterator[bytes]:
    datagram = b""
    for line in lines:
        if datagram and len(datagram) + len(line) > DATAGRAM:
            yield datagram
            datagram = b""
        datagram += line
    if datagram:
        yield datagram

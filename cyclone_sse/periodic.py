"""Statistics for Graphite: now and then, how many subscribers each channel has.

Carbon's plaintext protocol over UDP: ``<path> <value> <unix time>`` lines. UDP, because a
statistics server that is away must not matter here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyclone_sse.brokers import Broker

INTERVAL = 60.0  # seconds
# Bytes of a datagram: the least MTU of IPv6 (1280) less its header (40) and UDP's (8).
DATAGRAM = 1232

_NOT_A_PATH_PART = re.compile(r"[^A-Za-z0-9_-]")


class UdpExport(Service):
    """Sends what ``prepare`` gives to ``export-host``:``export-port`` every ``export-interval`` seconds.

    broker: whose figures. settings: the options. reactor: clock and network, the global one if None.
    """

    log = Logger()

    def __init__(self, broker: Broker, settings: Mapping[str, Any], reactor: Any = None) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.broker = broker
        self.settings = settings
        self.reactor = reactor
        self.protocol = DatagramProtocol()
        self.protocol.noisy = False  # no line with its address in memory at each start
        self._call = LoopingCall(self.export)
        self._call.clock = reactor
        self._failing = False

    def prepare(self) -> list[bytes]:
        """The datagrams to send now; none if there is nothing to say. For subclasses."""
        raise NotImplementedError

    def startService(self) -> None:
        """Begin to export, the first time after one interval."""
        super().startService()
        self.reactor.listenUDP(0, self.protocol)
        self._call.start(self.settings.get("export-interval") or INTERVAL, now=False)

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
        """Send the figures of this moment."""
        return Deferred.fromCoroutine(self._export()).addErrback(self._failed)

    async def _export(self) -> None:
        datagrams = self.prepare()
        if not datagrams:
            return
        # Each time anew: the name may have got another address since.
        address = await self.reactor.resolve(self.settings["export-host"])
        transport = self.protocol.transport
        assert transport is not None  # since startService
        for datagram in datagrams:
            transport.write(datagram, (address, self.settings["export-port"]))
        self._failing = False

    def _failed(self, failure: Failure) -> None:
        if not self._failing:  # said once, not every minute
            self._failing = True
            self.log.error("could not export: {reason}", reason=failure.getErrorMessage())


class GraphiteExport(UdpExport):
    """``<export-path>.<channel> <subscribers> <unix time>`` for each channel; and, where they are
    wanted, ``<export-path>.total.<figure>`` for the server as a whole."""

    clock: Callable[[], float] = staticmethod(time.time)

    def prepare(self) -> list[bytes]:
        """The lines of all channels, in datagrams that no network needs to split."""
        prefix = self.settings.get("export-path") or "cyclone-sse"
        now = int(self.clock())
        totals: dict[str, int] = {}
        for channel, subscribers in self.broker.stats():
            name = path_part(channel)
            totals[name] = totals.get(name, 0) + subscribers
        if self.settings.get("export-totals"):
            totals |= {f"total.{name}": value for name, value in self._figures().items()}
        lines = [f"{prefix}.{name} {total} {now}\n".encode() for name, total in totals.items()]
        return list(_packed(lines))

    def _figures(self) -> dict[str, int]:
        hub = self.broker.hub
        counters = hub.counters
        return {
            "subscribers": len(hub.clients),
            "channels": len(hub.stats()),
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
    """The channel's name as one part of a Graphite path.

    Dots would make a new level, and most other characters mean something to Graphite or to the
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

"""Notify systemd that the server is ready, reloads, stops, and is alive (sd_notify(3)).

Each notification is one datagram to the socket that ``NOTIFY_SOCKET`` names; without this variable nothing is
sent. systemd notices a hang when no datagrams arrive (``WatchdogSec=``).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class SystemdNotifier:
    """Notifies systemd, if it started this process.

    environment: has the socket and the interval of the watchdog; both variables are removed, so that workers
    send nothing. reactor: the clock.
    """

    log = Logger()

    def __init__(self, environment: MutableMapping[str, str], reactor: IReactorTime) -> None:
        address, microseconds, pid = (environment.pop(name, "") for name in _VARIABLES)
        # An address that begins with @ is in Linux's abstract namespace.
        self._address = address.replace("@", "\0", 1) if address.startswith("@") else address
        is_watched = microseconds.isdecimal() and pid in ("", str(os.getpid()))
        self._interval = int(microseconds) / 2e6 if is_watched else 0.0  # twice as often as needed
        self._alive = LoopingCall(self._send, "WATCHDOG=1")
        self._alive.clock = reactor

    def start(self) -> None:
        """Report from now on that this process is alive, if systemd requests that."""
        if self._address and self._interval:
            self._alive.start(self._interval)

    def send_ready(self) -> None:
        """Notify systemd that the server serves, or has read its files again."""
        self._send("READY=1")

    def send_reloading(self) -> None:
        """Notify systemd that the server reads its files again; `send_ready` follows."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def send_stopping(self) -> None:
        """Notify systemd that the server stops, which may take as long as --drain."""
        self._send("STOPPING=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagrams:
                datagrams.setblocking(False)  # without this, a systemd that is busy would stop the server
                datagrams.sendto(state.encode(), self._address)
        except OSError as error:
            self.log.debug("systemd was not notified: {reason}", reason=error)

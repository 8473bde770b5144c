"""The turns of the reactor: how long one serves sockets, and what is called at its end.

Twisted's reactor for epoll serves all sockets that are ready before it calls anything that is due. Without a
limit, a proxy that dies with the streams of 9,000 clients, or clients that all reconnect in one moment, would
be one turn, in which no other client is served. epoll reports in the next turns what was not served in this
one, so that no socket waits for long.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

SOCKETS_A_TURN = 100  # mostly less than 5 ms
SOCKETS_TIME = 0.01  # seconds; a client of 500 rooms that leaves takes 2 ms


class _Poller:
    """The epoll object of a reactor; it serves the sockets itself, for a limited time in one turn.

    Twisted's own loop sets a prefix for the lines of `log.msg` around each socket, which costs a twentieth of
    a publish. due: what is called once when these sockets have been served.
    """

    log = Logger()

    def __init__(self, reactor: Any, epoll: Any) -> None:
        self._poll = epoll.poll
        self._clock = reactor.seconds
        self._sockets = reactor._selectables
        self._serve_any = reactor._doReadOrWrite
        self._disconnect = reactor._disconnectSelectable
        self._most = SOCKETS_A_TURN  # for which there is probably time in a turn
        self.due: list[Callable[[], object]] = []
        self.register, self.modify, self.unregister = epoll.register, epoll.modify, epoll.unregister

    def poll(self, timeout: float, most: int) -> tuple[()]:
        """Wait for sockets, serve them, and call what is due. Returns nothing that is left to serve."""
        self._serve_for_a_time(self._poll(0 if self.due else timeout, min(most, self._most)))
        if self.due:
            self._call_due()
        return ()

    def _serve_for_a_time(self, found: list[tuple[int, int]]) -> None:
        began, taken = self._clock(), 0.0
        for number, (descriptor, events) in enumerate(found, 1):
            socket = self._sockets.get(descriptor)
            if socket is None:
                continue  # one that was served before it has closed it
            try:
                self._serve(socket, descriptor, events)
            except KeyboardInterrupt:
                raise
            except BaseException:
                # Without this, one protocol that fails at its end would stop those behind it.
                self.log.failure("serving a socket failed")
            taken = self._clock() - began
            if taken > SOCKETS_TIME:
                # Without this, epoll would report the same ones first in each turn: it moves those that it
                # reports behind those that wait.
                self._most = number
                break
        if taken < SOCKETS_TIME / 2:
            self._most = min(2 * self._most, SOCKETS_A_TURN)

    def _serve(self, socket: Any, descriptor: int, events: int) -> None:
        """Serve a socket as the reactor does, but without its other questions where there is only to read."""
        if events != select.EPOLLIN:
            self._serve_any(socket, descriptor, events)
            return
        try:
            ended = socket.doRead()
        except BaseException as error:
            self.log.failure("reading from a socket failed")
            ended = error
        if ended:
            self._disconnect(socket, ended, True)

    def _call_due(self) -> None:
        due, self.due = self.due, []  # what these add is called in the next turn
        for call in due:
            try:
                call()
            except Exception:
                self.log.failure("a call at the end of a turn failed")


def shorten_turns(reactor: Any) -> None:
    """Limit the time for which this reactor serves sockets in a turn. Has no effect on one without epoll."""
    poller = getattr(reactor, "_poller", None)
    if hasattr(select, "epoll") and isinstance(poller, select.epoll):
        reactor._poller = _Poller(reactor, poller)


def call_soon(reactor: Any, call: Callable[[], object]) -> None:
    """Call this once, when the reactor has served the sockets of this turn; it cannot be cancelled.

    ``callLater(0, ...)`` does the same at three times the cost, and does it here where turns are not short.
    """
    poller = getattr(reactor, "_poller", None)
    if isinstance(poller, _Poller):
        poller.due.append(call)
    else:
        reactor.callLater(0, call)

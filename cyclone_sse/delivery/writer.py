"""One thread beside the reactor's, for what may wait for a disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Writer(Protocol):
    """Calls one function after the other, elsewhere."""

    def call(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Call it; the Deferred has what comes of it."""

    def stop(self) -> None:
        """There will be nothing to do any more."""


class WriterThread:
    """A thread that begins with the first call: before, twistd may fork.

    A pool of Twisted's with one thread does the same for twice the processor time, which is what a
    publisher waits for when the disk is quick.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._calls: SimpleQueue[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]] | None] = (
            SimpleQueue()
        )
        self._thread: threading.Thread | None = None

    def call(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Call it there; the Deferred has what comes of it."""
        if self._thread is None:
            # A process that ends in an emergency must not wait for its disk: hence a daemon.
            self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
            self._thread.start()
        done: Deferred[T] = Deferred()
        self._calls.put((done, function, args))
        return done

    def stop(self) -> None:
        """End the thread. It must have nothing to do any more, or the reactor waits for it."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            done, function, args = call
            try:
                result = function(*args)
            except BaseException:
                self._reactor.callFromThread(done.errback, Failure())
            else:
                self._reactor.callFromThread(done.callback, result)

"""One thread beside the reactor's, for what may wait for a disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")


class Writer(Protocol):
    """Calls one function after the other, elsewhere."""

    def call(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Call it; the Deferred has what comes of it."""

    def stop(self) -> None:
        """There will be nothing to do any more."""


class _Thread(threading.Thread):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # A process that ends in an emergency must not wait for its disk.
        super().__init__(*args, **kwargs, daemon=True)


class WriterThread:
    """Calls one function after the other. The thread begins with the first: before, twistd may fork."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(1, 1, "journal")
        self._pool.threadFactory = _Thread

    def call(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Call it there; the Deferred has what comes of it."""
        if not self._pool.started:
            self._pool.start()
        return deferToThreadPool(self._reactor, self._pool, function, *args)

    def stop(self) -> None:
        """End the thread. It must have nothing to do any more, or the reactor waits for it."""
        if self._pool.started:
            self._pool.stop()

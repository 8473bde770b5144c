"""A thread that calls one function after another, for work that waits for a disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cyclone_sse.reactors import FromThread

T = TypeVar("T")


class Writer(Protocol):
    """An object that calls one function after another, outside the reactor's thread."""

    def call(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Call it; the Deferred fires with its result or its failure."""

    def stop(self) -> None:
        """Stop; no call will follow."""


class WriterThread:
    """One thread, started by the first call: before that twistd may fork.

    Twisted's thread pool of one thread takes twice the processor time for each call, which is what a
    publisher waits for when the disk is quick.
    """

    def __init__(self, reactor: FromThread) -> None:
        self._reactor = reactor
        self._calls: SimpleQueue[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]] | None] = (
            SimpleQueue()
        )
        self._thread: threading.Thread | None = None

    def call(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Call the function in the thread; the Deferred fires with its result or its failure."""
        if self._thread is None:
            # A daemon: without this a process with a hanging disk could not end.
            self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
            self._thread.start()
        done: Deferred[T] = Deferred()
        self._calls.put((done, function, args))
        return done

    def stop(self) -> None:
        """Stop the thread; the reactor waits for the calls that are under way."""
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

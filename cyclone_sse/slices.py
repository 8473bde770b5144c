"""Long work in slices: a limited number of steps in each turn of the reactor, in order.

Every list that clients or publishers can make long (clients, channels, entries, lines of a body) is walked
with this module. Without it, one request or one broken connection would block the server for all other
clients until the end of the list.

A task is an iterator of None that does a limited part of the work each time it is advanced. Tasks that must
stay in order are in one queue, and each is finished before the next starts. Independent tasks are in a fair
queue, and take turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from cyclone_sse.reactor_turns import call_soon

T = TypeVar("T")

SIZE = 500  # items in a slice: about 5 ms where an item is a send()
MANY = (
    1000  # channels in a slice; more of them are not changed in one: about 3 ms, or 7 ms if room must be made
)


def each(items: Iterable[T], step: Callable[[T], object], size: int = SIZE) -> Iterator[None]:
    """A task that calls step with each item, size of them in a slice.

    An item whose step raises is logged; the others follow.
    """
    log = Logger(namespace=__name__)
    for number, item in enumerate(items, 1):
        try:
            step(item)
        except Exception:
            log.failure("a step of work in slices failed")
        if not number % size:
            yield


def release(waiting: Iterable[Deferred[T]], result: T, size: int) -> Iterator[None]:
    """A task that fires the Deferreds that still wait with this result. size: how many in a slice.

    Without this, all clients that wait for one thing would be served in one turn.
    """

    def fire(deferred: Deferred[T]) -> None:
        if not deferred.called:  # else its client has left, or has waited for too long
            deferred.callback(result)

    return each(waiting, fire, size)


class Slices:
    """A queue of tasks. reactor: runs one slice in each of its turns.

    fair: whether the tasks take turns. Without this, a long one would delay all later ones. has_begun:
    whether a part of the first task is done.
    """

    log = Logger()

    def __init__(self, reactor: IReactorTime, fair: bool = False) -> None:
        self._reactor = reactor
        self._fair = fair
        self._tasks: deque[tuple[Iterator[None], Deferred[None] | None]] = deque()
        self._scheduled = False
        self.has_begun = False

    def __len__(self) -> int:
        """The tasks that are not finished."""
        return len(self._tasks)

    def add(self, task: Iterator[None]) -> Deferred[None]:
        """Queue the task; its first slice runs at the end of a turn, never at once.

        Fires when the task is finished. A task that raises is logged and counts as finished.
        """
        done: Deferred[None] = Deferred()
        self.put(task, done)
        return done

    def put(self, task: Iterator[None], done: Deferred[None] | None = None) -> None:
        """Queue the task like ``add``. done: fires when it is finished; None if no caller waits."""
        self._tasks.append((task, done))
        if not self._scheduled:
            self._schedule()

    def put_next(self, task: Iterator[None]) -> None:
        """Queue the task before all that have not started."""
        self._tasks.insert(int(self.has_begun), (task, None))
        if not self._scheduled:
            self._schedule()

    def result_of(self, task: Generator[None, None, T]) -> Deferred[T]:
        """Queue the task. The Deferred has its result, or fails with what it raises."""
        result: Deferred[T] = Deferred()
        self.add(_with_result(task, result))
        return result

    def idle(self) -> Deferred[None]:
        """A Deferred that fires when all tasks so far are finished."""
        return self.add(iter(())) if self._tasks else succeed(None)

    def _schedule(self) -> None:
        self._scheduled = True
        call_soon(self._reactor, self._run_slice)

    def _run_slice(self) -> None:
        self._scheduled = False
        self.has_begun = True
        task, done = self._tasks[0]
        is_over: object = True
        try:
            is_over = next(task, True)  # None until then
        except Exception:
            self.log.failure("work in slices failed")
        if is_over:
            self._tasks.popleft()
            self.has_begun = False
            if done is not None:
                done.callback(None)
        else:
            self._tasks.rotate(-self._fair)
        if self._tasks and not self._scheduled:
            self._schedule()


def finish(task: Generator[None, None, T]) -> T:
    """The result of a task that is known to be short, in this turn."""
    while True:
        try:
            next(task)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def finish_in_turns(task: Generator[None, None, T], queue: Slices) -> T | Deferred[T]:
    """The result of a task: at once if the first slice finishes it, else a Deferred from the queue.

    Raises, or fails with, what the task raises.
    """
    try:
        next(task)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    return queue.result_of(task if len(queue) else _after_this_turn(task))


def _after_this_turn(task: Generator[None, None, T]) -> Generator[None, None, T]:
    """Leave out the queue's first slice.

    While the reactor serves sockets, it would run at the end of the same turn, which has had a slice of this
    task: other clients would wait for both.
    """
    yield
    return (yield from task)


def _with_result(task: Generator[None, None, T], result: Deferred[T]) -> Iterator[None]:
    try:
        value = yield from task
    except Exception:
        result.errback()
    else:
        result.callback(value)

"""The reactor of a part that was given none, the global one; and what other threads need of a reactor.

The global one is imported at that moment: the import installs a reactor if the process has not chosen one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

from twisted.internet.interfaces import IReactorTime


class FromThread(Protocol):
    """The part of the reactor that other threads need."""

    def callFromThread(self, function: Callable[..., object], *args: Any) -> object:
        """Call the function in the reactor's thread."""


def reactor_or_global(reactor: IReactorTime | None) -> IReactorTime:
    """This reactor, or the global one if it is None."""
    if reactor is None:
        from twisted.internet import reactor as installed

        return cast(IReactorTime, installed)
    return reactor

"""The reactor of a part that was given none: the global one.

It is imported at that moment: the import installs a reactor if the process has not chosen one.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.interfaces import IReactorTime


def reactor_or_global(reactor: IReactorTime | None) -> IReactorTime:
    """This reactor, or the global one if it is None."""
    if reactor is None:
        from twisted.internet import reactor as installed

        return cast(IReactorTime, installed)
    return reactor

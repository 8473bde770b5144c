"""Signals that come while the server starts: remembered, and obeyed as soon as the server handles them.

Without this, each would end the process. They are not blocked: programs that an application starts would
inherit that, and could not be stopped. Every function is for the main thread.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from typing import Any

_delayed: set[int] = set()


def delay_signal(number: int, frame: Any = None) -> None:
    """Remember the signal until ``raise_delayed_signals``. A signal handler."""
    _delayed.add(number)


def delay_signals(numbers: Iterable[int]) -> None:
    """Delay these signals from now on; not one that is ignored, or that has a handler already."""
    for number in numbers:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, delay_signal)


def handle_signal(number: int, handler: Callable[..., object]) -> None:
    """Install the handler, unless the signal was ignored when the process started."""
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, handler)


def has_no_handler(number: int) -> bool:
    """Whether the signal would end the process, or would have without ``delay_signals``."""
    return signal.getsignal(number) in (signal.SIG_DFL, delay_signal)


def raise_delayed_signals() -> None:
    """Send this process the signals that were delayed, which have their handlers now."""
    while _delayed:
        signal.raise_signal(_delayed.pop())

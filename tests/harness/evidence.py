"""What a failed test shows, beside what it says: a failure in CI must be understood from CI's output alone.

Whatever runs beside a test (a process, a page, a site) offers what it can tell, for as long as it is there.
`tests/integration/conftest.py` adds all of it to the report of each failure.
"""

from __future__ import annotations

from collections.abc import Callable

MOST = 4000  # characters of each: the end says most

_offered: dict[object, tuple[str, Callable[[], str]]] = {}


def offer(source: object, name: str, tell: Callable[[], str]) -> None:
    """Show what `tell` returns, under this name, when a test fails before `withdraw` is called."""
    _offered[source] = name, tell


def withdraw(source: object) -> None:
    """Show nothing of it any more. Idempotent."""
    _offered.pop(source, None)


def collect() -> list[tuple[str, str]]:
    """Name and text of all that is offered; of what cannot tell anything, the reason."""
    found = []
    for name, tell in list(_offered.values()):
        try:
            text = tell()
        except Exception as error:  # without this, the failure itself would not be reported
            text = repr(error)
        found.append((name, text[-MOST:]))
    return found

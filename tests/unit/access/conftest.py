"""What the access tests share: the errors that they cause in the log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from zope.interface import provider


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The lines of errors in the log."""
    found: list[str] = []

    @provider(ILogObserver)
    def observe(event: Any) -> None:
        if event["log_level"] is LogLevel.error:
            found.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)

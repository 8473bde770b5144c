"""Fixtures of the brokers' unit tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import globalLogPublisher


@pytest.fixture
def log() -> Iterator[list[str]]:
    """The lines that are logged."""
    lines: list[str] = []

    def observe(event: Any) -> None:
        if event["log_namespace"].startswith(("cyclone_sse", "tests.unit.brokers")) and event["log_format"]:
            lines.append(event["log_format"].format_map(event))

    observer: Any = observe
    globalLogPublisher.addObserver(observer)
    yield lines
    globalLogPublisher.removeObserver(observer)

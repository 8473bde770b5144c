"""Clients that come back to a server that was restarted, or to another one: each receives what it must."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cyclone_sse.brokers import redis_stream
from tests.unit.delivery.journal_model import JournalModel
from tests.unit.delivery.journals import connections
from tests.unit.delivery.servers_model import ServersModel
from tests.unit.delivery.stream_model import StreamModel
from tests.unit.delivery.test_hub_model import small_slices

__all__ = ["connections", "small_slices"]

MODELS = pytest.mark.parametrize("model", [StreamModel, JournalModel])


@pytest.fixture(autouse=True, scope="module")
def small_lots() -> Iterator[None]:
    """Let a server read a stream in many steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis_stream, "FIRST_LOT", 2)
        patch.setattr(redis_stream, "MAX_LOT", 3)
        yield


def check(model: Callable[[int], ServersModel], seeds: range, failures: list[Any]) -> None:
    for seed in seeds:
        made = model(seed)
        try:
            made.play(150)
            assert list(made.faults()) == [], seed
        finally:
            made.close()
        assert not failures, seed


@MODELS
@pytest.mark.parametrize("first", [0, 10])
def test_each_client_receives_what_it_must_from_whichever_server(
    model: Any, first: int, failures: list[Any]
) -> None:
    check(model, range(first, first + 10), failures)


@MODELS
@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 1200, 100))
def test_each_client_receives_what_it_must_from_whichever_server_whatever_happens(
    model: Any, first: int, failures: list[Any]
) -> None:
    check(model, range(first, first + 100), failures)

"""The export, into a real carbon and read back from its files."""

from __future__ import annotations

from functools import partial

import whisper

from tests.harness.clients import Subscriber
from tests.harness.process import until
from tests.harness.servers import Carbon
from tests.integration.conftest import Serve


def values(carbon: Carbon, metric: str) -> list[float]:
    """What carbon has kept of a metric."""
    path = carbon.file_of(metric)
    if not path.exists():
        return []
    _, kept = whisper.fetch(str(path), 0)
    return [value for value in kept if value is not None]


def is_one(carbon: Carbon, metric: str) -> bool:
    """Whether one subscriber was counted."""
    return 1.0 in values(carbon, metric)


def test_the_numbers_of_subscribers_reach_carbon(serve: Serve, carbon: Carbon) -> None:
    where = ["--export=graphite", "--export-host=localhost", f"--export-port={carbon.port}"]
    server = serve(*where, "--export-interval=0.5", "--export-path=site.sse")
    names = [f"channel-{number}" for number in range(1000)]
    # the head of a request is limited to 16 KiB, about 500 of these channels
    with (
        Subscriber(server.url, [*names[:400], "news.sport"]),
        Subscriber(server.url, names[400:800]),
        Subscriber(server.url, [*names[800:], "news.sport"]),
    ):
        until(lambda: 2.0 in values(carbon, "site.sse.news_sport"), "two subscribers are counted")
        for name in names:
            until(partial(is_one, carbon, f"site.sse.{name}"), f"{name} is there")

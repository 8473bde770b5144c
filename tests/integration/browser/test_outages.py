"""Pages with `new EventSource` alone, behind the sample nginx, while servers go and come: nothing is lost."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.harness.clients import publish, stats
from tests.harness.patience import PATIENCE
from tests.harness.process import until
from tests.harness.servers import SseServer
from tests.integration.brokers.test_redis_stream import Stream, stream
from tests.integration.brokers.test_rolling_restart import Behind, Publisher, restart
from tests.integration.browser.conftest import Open
from tests.integration.conftest import Serve
from tests.integration.test_nginx import Front, front_of

__all__ = ["stream"]  # the fixture

SCRIPT = """
    seen = []; gaps = []; errors = 0;
    source = new EventSource('/sse/?channels=a&channels=b');
    source.onmessage = function (event) { seen.push(event.data); };
    source.onerror = function () { errors += 1; };
    source.addEventListener('sse-gap', function (event) { gaps.push(event.data); });
"""
PAGES = 6
RATE = 20.0  # events a second


def opened(browse: Open, front: Front) -> Any:
    """A page of that nginx, whose certificate is not known, with its stream open."""
    page = browse(front.tls_url + "/sse/stats", ignore_https_errors=True)  # any page of that origin
    page.evaluate(SCRIPT)
    page.wait_for_function("source.readyState === EventSource.OPEN")
    return page


def wait_for(page: Any, message: str) -> None:
    """Wait until the page has this message."""
    page.wait_for_function("message => seen.includes(message)", arg=message)


class Load:
    """A publisher in a thread of its own, beside Playwright, which needs ours."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def do(self, task: Coroutine[Any, Any, Any]) -> None:
        """Run it there, beside the publisher, and wait for it."""
        asyncio.run_coroutine_threadsafe(task, self._loop).result(PATIENCE)

    def __enter__(self) -> Self:
        self._thread.start()
        self._publishing = asyncio.run_coroutine_threadsafe(self.publisher.run(), self._loop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.publisher.stopping = True
            self._publishing.result(PATIENCE)
            self.do(self.publisher.add("end"))
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


@pytest.mark.slow
def test_a_rolling_restart(serve: Serve, stream: Stream, browse: Open, tmp_path: Path) -> None:
    """Two instances are drained in turn, and then killed in turn; the pages notice nothing."""
    servers = [serve(*stream.options, "--drain=1") for _ in range(2)]
    publisher = Publisher(stream.server.port, servers, RATE)
    with Behind(tmp_path, servers) as front:
        pages = [opened(browse, front) for _ in range(PAGES)]
        with Load(publisher) as load:
            for number in (signal.SIGTERM, signal.SIGKILL):
                for server in servers:
                    load.do(restart(server, publisher, number))
                    for page in pages:  # no page is still on its way when the other instance goes
                        wait_for(page, publisher.sent[-1])
        for page in pages:
            wait_for(page, "end")
        results = [page.evaluate("[seen, gaps, errors]") for page in pages]
    certain = [each for each in publisher.sent if each not in publisher.uncertain]
    assert len(certain) > 50
    for seen, gaps, _ in results:
        assert gaps == []
        assert len(set(seen)) == len(seen)
        assert [each for each in seen if each not in publisher.uncertain] == [*certain, "end"]
    assert all(errors > 0 for _, _, errors in results)  # each was cut off, or the test tests nothing


@pytest.fixture
def kept(serve: Serve, tmp_path: Path) -> SseServer:
    """A server that forgets nothing when it ends."""
    return serve(f"--history-file={tmp_path / 'history.db'}", "--retry=500")


@pytest.mark.slow
def test_three_outages(kept: SseServer, browse: Open, tmp_path: Path) -> None:
    """While the only server is away, nginx must answer so that the page comes again."""
    sent = []
    with front_of(tmp_path / "front", kept) as front:
        page = opened(browse, front)
        for outage, end in enumerate([kept.stop, kept.kill, kept.stop]):
            until(lambda: stats(kept.url) == {"a": 1, "b": 1}, "the page is here")
            publish(kept.url, "a", f"{outage} before")
            wait_for(page, f"{outage} before")
            errors = page.evaluate("errors")
            end()
            # once for the end of its stream, and again when it came in vain
            page.wait_for_function("enough => errors >= enough", arg=errors + 2)
            kept.start()
            publish(kept.url, "b", f"{outage} after")
            wait_for(page, f"{outage} after")
            sent += [f"{outage} before", f"{outage} after"]
        assert page.evaluate("[seen, gaps]") == [sent, []]

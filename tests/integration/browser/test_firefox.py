"""The same in Firefox: its own EventSource, the module, shared tabs, the plugins."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest

from tests.harness.clients import publish, stats
from tests.harness.process import until
from tests.harness.servers import SseServer
from tests.integration.browser.firefox import Firefox, FirefoxPage
from tests.integration.browser.site import Site, bare_page, module_page
from tests.integration.browser.test_module import CASES, LISTEN, READ
from tests.integration.browser.test_reconnect import PLAIN, PLUGIN
from tests.integration.browser.test_shared import PAGE, Publisher, one_connection, own

# Where Firefox 153's own EventSource differs from the standard: an id without data does not count, so that it
# cannot go on after a connection that brought no event; and a NUL ends what it reads.
FAULTS = {"a block without data is no event", "an id with NUL is none", "NUL in data"}


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    """One Firefox for all tests here, since it takes seconds to start."""
    with Firefox(tmp_path_factory.mktemp("firefox")) as running:
        yield running


@pytest.fixture
def browse(firefox: Firefox) -> Iterator[Callable[[str], FirefoxPage]]:
    """`browse(url)` opens a tab."""
    pages = []

    def open_page(url: str) -> FirefoxPage:
        pages.append(firefox.new_page())
        pages[-1].goto(url)
        return pages[-1]

    yield open_page
    for page in pages:
        if page.context:
            page.close()


@pytest.mark.parametrize(
    "page",
    [bare_page(PLAIN), bare_page(PLUGIN), module_page(LISTEN + "listen();")],
    ids=["native", "plugin", "module"],
)
def test_the_network_was_cut(
    server: SseServer, site: Site, browse: Callable[[str], FirefoxPage], page: str
) -> None:
    """For a moment, while events come."""
    site.pages["/"] = page
    tab = browse(site.url)
    until(lambda: stats(server.url) == {"a": 1}, "the stream")
    publish(server.url, "a", "0")
    tab.wait_for_function("seen.length === 1")
    site.cut()
    for message in range(1, 20):
        publish(server.url, "a", str(message))
    site.heal()
    tab.wait_for_function("seen.length >= 20")
    publish(server.url, "a", "20")
    tab.wait_for_function("seen.includes(20)")
    assert tab.evaluate("[seen, gaps]") == [list(range(21)), []]


def test_it_reads_the_format_as_the_browser_does(site: Site, browse: Callable[[str], FirefoxPage]) -> None:
    for number, case in enumerate(CASES):
        site.answers[f"/case/{number}"] = [(200, "text/event-stream", case["stream"])] * 2
    site.pages["/"] = module_page(READ)
    tab = browse(site.url)
    tab.wait_for_function("window.run")
    differing = set()
    for number, case in enumerate(CASES):
        types = sorted({kind for kind, _, _ in case["events"]})
        native, module = tab.evaluate(f"run('/case/{number}', {json.dumps(types)})")
        assert module == case["events"], case["name"]
        if native != case["events"]:
            differing.add(case["name"])
    assert differing <= FAULTS


def test_nested_elements(server: SseServer, site: Site, browse: Callable[[str], FirefoxPage]) -> None:
    body = """
        <div class="sse" id="outer" data-sse-channels="a" data-sse-events="x">
            <b class="sse" id="inner" data-sse-events="x"></b>
        </div>
    """
    script = "$('#outer, #inner').on('sse.x', function (e, data) { seen.push(this.id + data); }); $.sse();"
    site.pages["/"] = bare_page(script, body=body)
    tab = browse(site.url)
    until(lambda: stats(server.url) == {"a": 1}, "the stream")
    publish(server.url, "a", '["x", 1]')
    tab.wait_for_function("seen.length === 2")
    assert sorted(tab.evaluate("seen")) == ["inner1", "outer1"]


def test_tabs_share_one_connection(
    server: SseServer, site: Site, browse: Callable[[str], FirefoxPage]
) -> None:
    """And another goes on when the one that holds it is closed."""
    site.pages["/"] = module_page(PAGE)
    tabs = [browse(f"{site.url}/?{quote(json.dumps(own(number)))}") for number in range(8)]
    for tab in tabs:
        tab.wait_for_function("window.stream?.state === 'open'")
    one_connection(server)
    channels = ["all", *(f"own-{number}" for number in range(8))]
    with Publisher(server, channels) as publisher:
        tabs[1].wait_for_function("seen.length > 10")
        tabs[0].close()
        tabs[0].context = ""
        count = tabs[1].evaluate("seen.length")
        tabs[1].wait_for_function(f"seen.length > {count} + 10")
    for number, tab in enumerate(tabs[1:], start=1):
        publisher.check(tab, ["all", f"own-{number}"])
        assert tab.evaluate("gaps") == []
    one_connection(server)

"""What docs/browsers.md says: each cell of its table has its test, and its script runs."""

from __future__ import annotations

import importlib
import re

import pytest

from tests.harness.clients import publish, stats
from tests.harness.process import ROOT
from tests.harness.servers import SseServer
from tests.integration.browser.conftest import Open
from tests.integration.browser.site import Site

PAGE = (ROOT / "docs" / "browsers.md").read_text()
NODE = "module: test_under_node"
# the rows of the table, and the test of each cell: <module after test_>: <function>
TABLE = {
    "the connection breaks": (
        "reconnect: test_the_network_was_cut",
        "module: test_the_network_was_cut",
        "reconnect: test_the_network_was_cut_for_an_old_browser",
    ),
    "it breaks before the first event": (
        "firefox: test_it_reads_the_format_as_the_browser_does",
        NODE,
        "reconnect: test_the_network_was_cut_before_any_event",
    ),
    "a proxy's error page while the server is away": (
        "docs_browsers: test_event_source_gives_up_at_an_error_page",
        NODE,
        "reconnect: test_a_restart_behind_nginx",
    ),
    "the network fails silently": (
        "reconnect: test_the_network_was_cut",
        "module: test_the_network_was_cut",
        "reconnect: test_the_network_was_cut_for_an_old_browser",
    ),
    "a proxy buffers the stream": (
        "faults: test_event_source_waits_behind_it",
        "faults: test_a_proxy_that_holds_streams_back",
        "faults: test_event_source_waits_behind_it",
    ),
    "204, 400, 401, 403, 404, 410, 414": (
        "docs_browsers: test_event_source_gives_up_at_an_error_page",
        NODE,
        "refusals: test_the_server_wants_no_other_try",
    ),
    "a token that has expired": (
        "docs_browsers: test_event_source_gives_up_at_an_error_page",
        NODE,
        "refusals: test_a_new_address_after_a_refusal",
    ),
    "a hidden page becomes visible": (
        "docs_browsers: test_event_source_gives_up_at_an_error_page",
        "module: test_it_comes_back_at_once_when_it_is_seen_again",
        "old_browser: test_polls_that_end_with_a_ping",
    ),
    "the seventh tab over HTTP/1.1": (
        "limits: test_six_over_http1",
        "shared: test_ten_tabs",
        "limits: test_the_plugin_needs_one",
    ),
    "the channels change": (
        "limits: test_six_over_http1",
        "module: test_channels_come_and_go_on_a_busy_server",
        "plugins: test_eventsource",
    ),
    "missed events are no longer kept": (
        "reconnect: test_the_server_was_killed",
        "module: test_the_server_was_restarted",
        "reconnect: test_the_plugins_tell_of_the_gap",
    ),
    "a browser without EventSource": (
        "old_browser: test_a_hundred_messages",
        "docs_browsers: test_the_module_needs_fetch",
        "old_browser: test_a_hundred_messages",
    ),
}


def test_each_cell_has_its_test() -> None:
    table = PAGE.partition("## What each of them handles")[2].partition("\n\n[proxies.md]")[0]
    rows = re.findall(r"^\| ([^|]+) \|.*\|$", table, re.MULTILINE)
    assert rows == list(TABLE)
    for cells in TABLE.values():
        for cell in cells:
            name, _, function = cell.partition(": ")
            module = importlib.import_module(f"tests.integration.browser.test_{name}")
            assert callable(getattr(module, function)), cell


@pytest.mark.parametrize("status", [502, 204, 400, 401, 403, 404, 410, 414])
def test_event_source_gives_up_at_an_error_page(site: Site, browse: Open, status: int) -> None:
    site.pages["/"] = "<!DOCTYPE html><title>x</title><script>source = new EventSource('/answer');</script>"
    site.answers["/answer"] = [(status, "text/html", "")]
    page = browse(site.url)
    page.wait_for_function("source.readyState === 2")
    page.evaluate("dispatchEvent(new Event('online'))")
    assert page.evaluate("source.readyState") == 2


def test_the_module_needs_fetch(server: SseServer, site: Site, browse: Open) -> None:
    site.pages["/"] = (
        '<!DOCTYPE html><title>x</title><script src="/media/cyclone-sse.global.js"></script><script>'
        "states = []; stream = cycloneSSE.connect('/sse/', {channels: 'a'});"
        "stream.on('state', function (event) { states.push(event.state); });</script>"
    )
    page = browse(site.url, old=True)
    page.wait_for_function("states.includes('waiting')")
    assert stats(server.url) == {}


def test_its_script_runs(server: SseServer, site: Site, browse: Open) -> None:
    script = re.findall(r"```js\n(.*?)```", PAGE, re.DOTALL)[0]
    site.pages["/"] = f'<!DOCTYPE html><title>x</title><script type="module">{script}</script>'
    page = browse("about:blank")
    with page.expect_console_message(lambda message: message.text.startswith("open ")):
        page.goto(site.url)
    with page.expect_console_message(lambda message: message.text == "{x: 1} [news]"):
        publish(server.url, "news", '{"x": 1}')

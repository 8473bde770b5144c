"""The network or the server is away for a while: pages reconnect, and nothing is lost without a gap."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.clients import publish, stats
from tests.harness.process import ROOT, until
from tests.harness.servers import SseServer
from tests.integration.browser.conftest import Open
from tests.integration.browser.site import JQUERIES, Site, bare_page, node_modules
from tests.integration.conftest import Serve
from tests.integration.test_nginx import front_of

PLAIN = """
    var source = new EventSource('/sse/?channels=a'), gaps = [], errors = 0;
    source.onmessage = function (event) { seen.push(JSON.parse(event.data)); };
    source.onerror = function () { errors += 1; };
    source.addEventListener('sse-gap', function (event) { gaps.push(JSON.parse(event.data).channels); });
"""
PLUGIN = """
    var gaps = [], errors = 0, opens = 0;
    $.eventsource({url: '/sse/', data: {channels: 'a'}, timeout: 2000, open: function () { opens += 1; },
        message: function (data) { seen.push(data); },
        gap: function (channels) { gaps.push(channels); }, error: function () { errors += 1; }});
"""
ELEMENTS = """
    var gaps = [], errors = 0;
    $('#one, #two').on('sse.gap', function (e, channels) { gaps.push(this.id + ' ' + channels); });
    $('#one, #two').on('sse.error', function (e) { errors += 1; });
    $('#one').on('sse.x', function (e, data) { seen.push(data); });
    $('#two').on('sse.message', function (e, message) { seen.push(message[1]); });
    $.sse();
    $('#two').sse({channels: ['b']});
"""
BODY = """<p id="one" class="sse" data-sse-channels="a" data-sse-events="x"></p><p id="two"></p>"""


def test_the_network_was_cut(server: SseServer, site: Site, browse: Open) -> None:
    """By the browser's own EventSource alone."""
    site.pages["/"] = bare_page(PLAIN)
    page = browse(site.url)
    until(lambda: stats(server.url) == {"a": 1}, "the stream")
    publish(server.url, "a", "0")
    page.wait_for_function("seen.length === 1")
    site.cut()
    for message in range(1, 50):
        publish(server.url, "a", str(message))
    site.heal()
    page.wait_for_function("seen.length >= 49")
    publish(server.url, "a", "50")
    page.wait_for_function("seen[seen.length - 1] === 50")
    assert page.evaluate("seen") == list(range(51))
    assert page.evaluate("gaps") == []
    assert page.evaluate("errors") == 1


def test_the_network_was_cut_before_any_event(server: SseServer, site: Site, browse: Open, old: bool) -> None:
    """The page has seen no event by then, but the server has sent it the id at which its stream starts."""
    site.pages["/"] = bare_page(PLUGIN)
    page = browse(site.url, old)
    page.wait_for_function("opens > 0")
    site.cut()
    for message in range(10):
        publish(server.url, "a", str(message))
    site.heal()
    page.wait_for_function("seen.length >= 10")
    assert page.evaluate("[seen, gaps]") == [list(range(10)), []]


def test_the_network_was_cut_for_an_old_browser(server: SseServer, site: Site, browse: Open) -> None:
    """Here the plugin itself must notice that nothing arrives any more."""
    site.pages["/"] = bare_page(PLUGIN)
    page = browse(site.url, old=True)
    page.wait_for_function("opens > 0")  # later than in the server's stats; only now it knows its place
    site.cut()
    for message in range(50):
        publish(server.url, "a", str(message))
    page.wait_for_function("errors > 0")
    site.heal()
    page.wait_for_function("seen.length >= 50")
    publish(server.url, "a", "50")
    page.wait_for_function("seen[seen.length - 1] === 50")
    assert page.evaluate("seen") == list(range(51))
    assert page.evaluate("gaps") == []


def test_the_server_was_killed(serve: Serve, browse: Open) -> None:
    server = serve("--retry=200")
    with Site(server.port) as site:
        site.pages["/"] = bare_page(PLAIN)
        page = browse(site.url)
        until(lambda: stats(server.url) == {"a": 1}, "the stream")
        publish(server.url, "a", "0")
        page.wait_for_function("seen.length === 1")
        server.kill()
        page.wait_for_function("errors > 2")
        server.start()
        page.wait_for_function("gaps.length > 0")
        publish(server.url, "a", "1")
        page.wait_for_function("seen.length === 2")
        assert page.evaluate("[seen, gaps]") == [[0, 1], [["a"]]]


def test_the_plugins_tell_of_the_gap(serve: Serve, browse: Open, jquery: str, old: bool) -> None:
    server = serve("--retry=200")
    with Site(server.port) as site:
        site.pages["/"] = bare_page(ELEMENTS, jquery, BODY)
        page = browse(site.url, old)
        until(lambda: stats(server.url) == {"a": 1, "b": 1}, "both streams")
        publish(server.url, "a", '["x", 0]')
        page.wait_for_function("seen.length === 1")
        publish(server.url, "b", '["x", 1]')
        page.wait_for_function("seen.length === 2")
        server.kill()
        page.wait_for_function("errors > 2")
        server.start()
        page.wait_for_function("gaps.length === 2")
        publish(server.url, "a", '["x", 2]')
        page.wait_for_function("seen.length === 3")
        publish(server.url, "b", '["x", 3]')
        page.wait_for_function("seen.length === 4")
        assert page.evaluate("seen") == [0, 1, 2, 3]
        assert sorted(page.evaluate("gaps")) == ["one a", "two b"]
        assert page.faults == []


@pytest.mark.slow
@pytest.mark.parametrize("heard", [True, False], ids=["after an event", "before any"])
def test_a_restart_behind_nginx(server: SseServer, browse: Open, tmp_path: Path, heard: bool) -> None:
    """The plugin reports the gap, whether or not it has received an event with an id."""
    with front_of(tmp_path / "front", server) as front:
        page = browse(front.tls_url + "/sse/stats", ignore_https_errors=True)  # any page of that origin
        for script in (node_modules() / JQUERIES["4.x"], ROOT / "media" / "jquery.eventsource.js"):
            page.add_script_tag(path=str(script))
        page.evaluate("seen = [];" + PLUGIN.replace("var ", ""))
        page.wait_for_function("opens === 1")
        if heard:
            publish(server.url, "a", "1")
            page.wait_for_function("seen.length === 1")
        server.kill()
        page.wait_for_function("errors >= 3")
        server.start()
        page.wait_for_function("gaps.length === 1")
        publish(server.url, "a", "2")
        page.wait_for_function("seen[seen.length - 1] === 2")
        assert page.evaluate("[seen, gaps]") == [[1, 2] if heard else [2], [["a"]]]


def test_a_restart_behind_nginx_with_eventsource_alone(
    server: SseServer, browse: Open, tmp_path: Path
) -> None:
    """The sample answers with an empty stream meanwhile, so that the browser tries again."""
    with front_of(tmp_path / "front", server) as front:
        page = browse(front.tls_url + "/sse/stats", ignore_https_errors=True)  # any page of that origin
        page.evaluate("seen = [];" + PLAIN.replace("var ", ""))
        until(lambda: stats(server.url) == {"a": 1}, "the stream")
        publish(server.url, "a", "1")
        page.wait_for_function("seen.length === 1")
        server.kill()
        page.wait_for_function("errors >= 2")
        server.start()
        page.wait_for_function("gaps.length === 1")
        publish(server.url, "a", "2")
        page.wait_for_function("seen.length === 2")
        assert page.evaluate("[seen, gaps, source.readyState]") == [[1, 2], [["a"]], 1]

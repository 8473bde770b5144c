"""How many streams one browser opens to one host: six over HTTP/1.1, and as many as it likes over HTTP/2."""

from __future__ import annotations

from pathlib import Path

from tests.harness.clients import publish, stats
from tests.harness.process import until
from tests.harness.servers import SseServer
from tests.integration.browser.conftest import Open
from tests.integration.browser.site import Site, bare_page
from tests.integration.test_nginx import front_of

EIGHT = """
    seen = [];
    sources = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'].map(function (channel) {
        var source = new EventSource('/sse/?channels=' + channel);
        source.onmessage = function (event) { seen.push(event.data); };
        return source;
    });
"""
ONE = """
    $(document).on('sse.x', 'p', function (e, data) { seen.push(data); });
    $.sse();
"""
CHANNELS = "abcdefgh"


def test_six_over_http1(server: SseServer, site: Site, browse: Open) -> None:
    site.pages["/"] = bare_page(EIGHT)
    page = browse(site.url)
    until(lambda: len(stats(server.url)) == 6, "six streams")
    page.evaluate("sources[0].close()")  # frees one connection for the seventh
    until(lambda: set(stats(server.url)) == set("bcdefg"), "the seventh in place of the first")
    page.evaluate("sources.forEach((source) => source.close())")


def test_the_plugin_needs_one(server: SseServer, site: Site, browse: Open) -> None:
    body = "".join(f'<p class="sse" data-sse-channels="{name}" data-sse-events="x"></p>' for name in CHANNELS)
    site.pages["/"] = bare_page(ONE, body=body)
    page = browse(site.url)
    until(lambda: len(stats(server.url)) == 8, "eight channels")
    assert len([path for path in site.requests if path.startswith("/sse/")]) == 1
    publish(server.url, "h", '["x", "h"]')
    page.wait_for_function("seen.length === 8")


def test_more_than_six_over_http2(server: SseServer, browse: Open, tmp_path: Path) -> None:
    with front_of(tmp_path / "front", server) as front:
        page = browse(front.tls_url + "/sse/stats", ignore_https_errors=True)  # any page of that origin
        page.evaluate(EIGHT)
        until(lambda: len(stats(server.url)) == 8, "eight streams")
        publish(server.url, list(CHANNELS), "1")
        page.wait_for_function("seen.length === 8")

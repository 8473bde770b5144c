"""A page of another origin (another port is one) subscribes, with and without its user's cookies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.harness.clients import publish, stats
from tests.harness.process import ROOT, until
from tests.harness.servers import SseServer
from tests.integration.browser.conftest import Open
from tests.integration.browser.site import Site, bare_page
from tests.integration.conftest import Serve

# shows in /stats which cookie the page sent
APPLICATION = """
import cyclone.web
from cyclone_sse.brokers import HttpBroker
from cyclone_sse.handlers import BroadcastHandler, PublishHandler, StatsHandler

class Subscribe(BroadcastHandler):
    def authorize(self):
        return True
    def get_channels(self):
        return [*super().get_channels(), 'cookie ' + self.get_cookie('who', 'none')]

class App(cyclone.web.Application):
    def __init__(self, settings):
        self.broker = HttpBroker(settings)
        super().__init__([(r'/', Subscribe), (r'/publish', PublishHandler), (r'/stats', StatsHandler)])
"""
LISTEN = """
    var errors = [];
    function read(withCredentials) {
        $.eventsource({
            label: 'a', url: '%s/', data: {channels: 'a'}, withCredentials: withCredentials, retry: 100,
            message: function (data) { seen.push(data); },
            error: function () { errors.push(withCredentials); }
        });
    }
"""


def page_of(site: Site, server: SseServer, browse: Open, old: bool) -> Any:
    site.pages["/"] = bare_page(LISTEN % server.url)
    page = browse(site.url, old)
    page.context.add_cookies([{"name": "who", "value": "ann", "url": server.url}])
    return page


def test_any_origin_without_cookies(server: SseServer, browse: Open, old: bool) -> None:
    with Site() as site:
        page = page_of(site, server, browse, old)
        page.evaluate("read(false)")
        until(lambda: stats(server.url) == {"a": 1}, "the stream")
        publish(server.url, "a", "1")
        page.wait_for_function("seen.length === 1")


def test_credentials_need_a_list_of_origins(server: SseServer, browse: Open, old: bool) -> None:
    """To `*`, the default, a browser hands no answer to a request with cookies."""
    with Site() as site:
        page = page_of(site, server, browse, old)
        page.evaluate("read(true)")
        page.wait_for_function("errors.length > 1")
        assert page.evaluate("seen") == []


def test_a_listed_origin_with_and_without_cookies(
    serve: Serve, browse: Open, tmp_path: Path, old: bool
) -> None:
    (tmp_path / "cookies.py").write_text(APPLICATION)
    with Site() as site:
        origins = f"--cors-origin=https://example.org,{site.url}"
        server = serve("--app=cookies.App", origins, env={"PYTHONPATH": f"{ROOT}:{tmp_path}"})
        page = page_of(site, server, browse, old)
        page.evaluate("read(true)")
        until(lambda: stats(server.url) == {"a": 1, "cookie ann": 1}, "the stream, with the cookie")
        publish(server.url, "a", "1")
        page.wait_for_function("seen.length === 1")
        page.evaluate("read(false)")
        until(lambda: stats(server.url) == {"a": 1, "cookie none": 1}, "the stream, without the cookie")
        publish(server.url, "a", "2")
        page.wait_for_function("seen.length === 2")
        assert page.evaluate("[seen, errors]") == [[1, 2], []]


def test_an_origin_that_is_not_listed(serve: Serve, browse: Open, old: bool) -> None:
    server = serve("--cors-origin=https://example.org")
    with Site() as site:
        page = page_of(site, server, browse, old)
        page.evaluate("read(false)")
        page.wait_for_function("errors.length > 1")
        assert page.evaluate("seen") == []

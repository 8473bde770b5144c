"""What servers, proxies and other tabs do wrong, and what a page with the module notices of it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness.clients import Subscriber, publish, stats
from tests.harness.process import until
from tests.harness.servers import SseServer
from tests.integration.browser.conftest import Open
from tests.integration.browser.site import Site, bare_page, module_page
from tests.integration.browser.test_module import LISTEN
from tests.integration.conftest import Serve
from tests.unit.access.keys import jwk, private, token

SHARED = """
    window.states = [];
    const names = (name, count) => Array.from({length: count}, (_, number) => `${name}-${number}`);
    window.listen = (options) => {
        window.stream = connect('/sse/', {shared: true, ...options});
        stream.on('message', (event) => seen.push(event.json));
        stream.on('state', ({state, status}) => states.push(status ? `${state} ${status}` : state));
    };
    window.many = (name, count) => listen({channels: names(name, count)});
"""

Tabs = Callable[[str], Any]


@pytest.fixture
def tab(open_profile: Open, site: Site) -> Tabs:
    """`tab(script)` opens a tab that runs it, all in one profile."""
    context = open_profile()
    site.pages["/"] = module_page(SHARED)

    def open_tab(script: str) -> Any:
        page = context.new_page()
        page.goto(site.url)
        page.wait_for_function("Boolean(window.listen)")
        page.evaluate(f"() => {{ {script} }}")
        page.wait_for_function("/open|stopped/.test(window.stream.state)")
        return page

    return open_tab


def asked(site: Site) -> int:
    return len([path for path in site.requests if path.startswith("/sse/")])


@pytest.mark.slow
def test_a_proxy_that_holds_streams_back(serve: Serve, browse: Open) -> None:
    server = serve("--ping-interval=1")
    with Site(server.port) as site:
        site.buffers = True
        site.pages["/"] = module_page(LISTEN + "listen({ping: 1000});")
        page = browse(site.url)
        page.wait_for_function("stream.state === 'open'")
        for number in range(25):
            publish(server.url, "a", str(number))
        page.wait_for_function("seen.length >= 25")
        assert page.evaluate("[seen, gaps]") == [list(range(25)), []]
        page.evaluate("stream.close()")


@pytest.mark.parametrize("plugin", [False, True])
def test_event_source_waits_behind_it(server: SseServer, site: Site, browse: Open, plugin: bool) -> None:
    site.buffers = True
    native = "source = new EventSource('/sse/?channels=a'); source.onopen = () => seen.push('open');"
    with_plugin = "$.eventsource({url: '/sse/', data: {channels: 'a'}, open: () => seen.push('open')});"
    site.pages["/"] = bare_page(with_plugin if plugin else native)
    page = browse(site.url)
    until(lambda: stats(server.url) == {"a": 1}, "the stream")
    publish(server.url, "a", "1")
    assert page.evaluate("seen") == []


def test_retry_0_and_an_outage(site: Site, browse: Open) -> None:
    site.pages["/"] = module_page(LISTEN.replace("'/sse/'", "'/answer'") + "listen();")
    site.answers["/answer"] = [(200, "text/event-stream", "retry: 0\n\nid: 7\ndata: 1\n\n")]
    page = browse(site.url)
    page.wait_for_function("states.includes('waiting')")
    page.evaluate("new Promise((resolve) => setTimeout(resolve, 2000))")
    assert len([path for path in site.requests if path.startswith("/answer")]) < 20, "not without a pause"


def test_a_channel_whose_name_has_a_line_break(server: SseServer, site: Site, browse: Open) -> None:
    site.pages["/"] = module_page(LISTEN + "listen({channels: ['a\\nb', 'c']});")
    page = browse(site.url)
    until(lambda: stats(server.url) == {"a\nb": 1, "c": 1}, "the stream")
    page.evaluate("() => { stream.on('message', ({channels}) => seen.push(channels)); }")
    publish(server.url, "a\nb", "1")
    page.wait_for_function("seen.length === 2")
    assert page.evaluate("seen") == [1, ["a\nb"]]


def test_tabs_with_more_channels_than_one_stream_may_have(server: SseServer, site: Site, tab: Tabs) -> None:
    tabs = [tab(f"many('{name}', 300)") for name in "abc"]
    for (
        page
    ) in tabs:  # one that stands still for two seconds is no leader any more, and the others connect again
        page.wait_for_function("stream.state === 'open'")
    until(lambda: len(stats(server.url)) == 900, "all channels")
    for number, name in enumerate("abc"):
        publish(server.url, f"{name}-299", str(number))
    for number, page in enumerate(tabs):
        page.wait_for_function("seen.length === 1")
        assert page.evaluate("seen") == [number]
        assert set(page.evaluate("states")) == {"connecting", "open"}
    settled = asked(site)
    tabs[0].close()  # it led
    publish(server.url, "b-1", "3")
    tabs[1].wait_for_function("seen.length === 2")
    publish(server.url, "c-1", "4")
    tabs[2].wait_for_function("seen.length === 2")
    assert asked(site) <= settled + 10, "not again and again"


def test_a_server_that_accepts_fewer_channels(serve: Serve, site: Site, tab: Tabs) -> None:
    server = serve("--max-channels=12")
    site.backend_port = server.port
    tabs = [tab(f"many('{name}', 10)") for name in "abc"]
    until(lambda: len(stats(server.url)) == 30, "all channels")
    for name in "abc":
        publish(server.url, f"{name}-9", "1")
    for page in tabs:
        page.wait_for_function("seen.length === 1")
        assert page.evaluate("stream.state") == "open"
    until(lambda: stats(server.url)["a-0"] == 1, "one stream for each")


def signed(kid: str) -> str:
    """A token of one user: these differ in nothing but the key that signed them, so that tabs share."""
    return token(private("p256"), "ES256", {"kid": kid}, sub="ann", subscribe=["*"])


def accepted(server: SseServer, given: str) -> bool:
    with Subscriber(server.url, "c", query={"access_token": given}) as client:
        return client.status == 200


@pytest.mark.parametrize("how", ["refused", "fails"])
def test_a_token_of_the_tab_that_leads(serve: Serve, site: Site, tab: Tabs, tmp_path: Path, how: str) -> None:
    keys = tmp_path / "jwks.json"
    keys.write_text(json.dumps({"keys": [jwk("p256", kid="1"), jwk("p256", kid="2")]}))
    server = serve(f"--jwt-keys={keys}", "--http-secret=k")
    site.backend_port = server.port
    if how == "refused":
        leader = tab(f"listen({{channels: ['a'], token: '{signed('1')}'}});")
    else:
        fail = "if (count++) throw Error('down');"
        asking = f"let count = 0; const ask = async () => {{ {fail} return '{signed('1')}'; }};"
        leader = tab(f"{asking} listen({{channels: ['a'], token: ask}});")
    follower = tab(f"listen({{channels: ['b'], token: '{signed('2')}'}});")
    until(lambda: stats(server.url) == {"a": 1, "b": 1}, "one connection for both")
    if how == "refused":
        keys.write_text(json.dumps({"keys": [jwk("p256", kid="2")]}))
        server.send_signal(signal.SIGHUP)
        until(lambda: not accepted(server, signed("1")), "the key is taken back")
    site.heal()  # cuts the connection
    if how == "refused":
        leader.wait_for_function("states.at(-1) === 'stopped 401'")
    follower.wait_for_function("states.filter((state) => state === 'open').length >= 2")
    publish(server.url, "b", "1", key="k")
    follower.wait_for_function("seen.length === 1")
    assert not any(state.startswith("stopped") for state in follower.evaluate("states"))
    if how == "fails":
        publish(server.url, "a", "2", key="k")
        leader.wait_for_function("seen.includes(2)")

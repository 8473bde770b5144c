"""What the plugins do when the server refuses them, and with an address that changes."""

from __future__ import annotations

import pytest

from tests.harness.clients import publish, stats
from tests.harness.process import until
from tests.harness.servers import SseServer
from tests.integration.browser.conftest import Open
from tests.integration.browser.site import Site, bare_page
from tests.integration.conftest import Serve

LISTEN = """
    var errors = [], asked = 0;
    function address() { asked += 1; return '/answer?asked=' + asked; }
    $.eventsource({label: 'a', url: URL, data: {channels: 'a'}, retry: 10,
        message: function (data) { seen.push(data); },
        error: function (event) {
            errors.push([event.status || 0, $.eventsource('streams', 'a') !== undefined]);
        }});
"""
EVENT = (200, "text/event-stream", "id: 7\ndata: 1\n\n")


@pytest.mark.parametrize("status", [204, 400, 401, 403, 404, 410, 414])
def test_the_server_wants_no_other_try(site: Site, browse: Open, old: bool, status: int) -> None:
    site.pages["/"] = bare_page(LISTEN.replace("URL", "'/answer'"), "1.7.2")
    site.answers["/answer"] = [(502, "text/html", "Bad gateway")] * 2 + [(status, "application/json", "")] * 2
    page = browse(site.url, old)
    page.wait_for_function("errors.length > 1 && !errors[errors.length - 1][1]")
    assert page.evaluate("errors[errors.length - 1]") == [status, False]
    assert page.evaluate("errors[0]") == [502, True]
    asked = len(site.requests)
    page.evaluate("new Promise((resolve) => setTimeout(resolve, 100))")  # ten times the pause between tries
    assert len(site.requests) == asked


def test_each_refusal_is_asked_for_once(site: Site, browse: Open, old: bool) -> None:
    """EventSource shows no status: the request that does is the next try, not one more of the same."""
    site.pages["/"] = bare_page(LISTEN.replace("URL", "'/answer'"))
    site.answers["/answer"] = [(503, "application/json", "")] * 6 + [EVENT] * 2
    page = browse(site.url, old)
    page.wait_for_function("seen.length > 0")
    page.evaluate("$.eventsource('close')")
    refusals = [status for status, _ in page.evaluate("errors") if status == 503]
    assert len(refusals) == (6 if old else 5)


@pytest.mark.parametrize("value", ["3600", "Fri, 01 Jan 2099 00:00:00 GMT", "99999999999"])
def test_a_full_server_says_when_to_come_back(site: Site, browse: Open, old: bool, value: str) -> None:
    site.pages["/"] = bare_page(LISTEN.replace("URL", "'/answer'"))
    site.answers["/answer"] = [(503, "application/json", "")] * 50
    site.retry_after = value
    page = browse(site.url, old)
    page.wait_for_function("errors.length > 0")
    page.evaluate("new Promise((resolve) => setTimeout(resolve, 500))")  # fifty times the pause between tries
    assert len([path for path in site.requests if path.startswith("/answer")]) <= 2


def test_a_new_address_after_a_refusal(site: Site, browse: Open, old: bool) -> None:
    """A token in the address has expired: the function gives the next one."""
    site.pages["/"] = bare_page(LISTEN.replace("URL", "address"))
    site.answers["/answer"] = [EVENT, (401, "application/json", ""), EVENT, EVENT]
    page = browse(site.url, old)
    page.wait_for_function("seen.length > 1")
    page.evaluate("$.eventsource('close')")
    addresses = [path for path in site.requests if path.startswith("/answer")]
    different = list(dict.fromkeys(address.partition("&")[0] for address in addresses))
    assert different[:3] == ["/answer?asked=1", "/answer?asked=2", "/answer?asked=3"]
    assert all("channels=a" in address for address in addresses)


@pytest.mark.parametrize("plugin", ["$.sse", "$('p').sse"])
def test_the_plugins_for_elements_pass_it_on(site: Site, browse: Open, old: bool, plugin: str) -> None:
    options = (
        "{url: at, address: at, retry: 10, data: function () { asked += 1; return {token: 't' + asked}; }}"
    )
    script = f"var asked = 0; function at() {{ return '/answer'; }} {plugin}({options});"
    site.pages["/"] = bare_page(script, body='<p class="sse" data-sse-channels="a,b"></p>')
    site.answers["/answer"] = [(502, "text/html", "")] * 2
    page = browse(site.url, old)
    page.wait_for_function("asked > 2")
    page.evaluate("$.eventsource('close')")
    assert all("token=t" in path for path in site.requests if path.startswith("/answer"))
    assert all("channels=a&channels=b" in path for path in site.requests if path.startswith("/answer"))


def test_nested_elements(server: SseServer, site: Site, browse: Open, jquery: str) -> None:
    """Each receives an event once, and handlers on the document are called once for each element."""
    body = """
        <div class="sse" id="outer" data-sse-channels="a" data-sse-events="x">
            <p id="between"><b class="sse" id="inner" data-sse-events="x"></b></p>
        </div>
    """
    script = """
        $('#outer, #inner, #between').on('sse.x', function (e, data) { seen.push([this.id, data]); });
        $(document).on('sse.x', '.sse', function (e, data) { seen.push(['document ' + this.id, data]); });
        $('#outer, #inner').on('sse.open', function () { seen.push([this.id, 'open']); });
        $.sse();
    """
    site.pages["/"] = bare_page(script, jquery, body)
    page = browse(site.url)
    page.wait_for_function("seen.length === 2")
    publish(server.url, "a", '["x", 1]')
    page.wait_for_function("seen.length >= 7")
    assert page.evaluate("seen.map(([who, data]) => who + ' ' + data).sort()") == [
        "between 1",
        "document inner 1",
        "document outer 1",
        "inner 1",
        "inner open",
        "outer 1",
        "outer open",
    ]
    assert page.faults == []


def test_nested_elements_with_streams_of_their_own(
    server: SseServer, site: Site, browse: Open, jquery: str
) -> None:
    body = '<div id="outer" data-sse-channels="a"><p id="inner" data-sse-channels="a,b"></p></div>'
    script = """
        $('#outer, #inner').on('sse.message', function (e, data) { seen.push(this.id + ' ' + data); }).sse();
    """
    site.pages["/"] = bare_page(script, jquery, body)
    page = browse(site.url)
    until(lambda: stats(server.url) == {"a": 2, "b": 1}, "both streams")
    publish(server.url, "b", "1")
    page.wait_for_function("seen.length === 1")
    publish(server.url, "a", "2")
    page.wait_for_function("seen.length === 3")
    assert sorted(page.evaluate("seen")) == ["inner 1", "inner 2", "outer 2"]


def test_long_polls_bring_all_that_was_missed(serve: Serve, browse: Open) -> None:
    """With --poll-batch=1 one answer holds what otherwise takes a hundred."""
    server = serve("--poll-batch=1")
    for message in range(100):
        publish(server.url, "a", str(message))
    script = """
        $.eventsource({url: '/sse/', data: {channels: 'a'}, lastEventId: 'earliest',
            message: function (data) { seen.push(data); }});
    """
    with Site(server.port) as site:
        site.pages["/"] = bare_page(script, "1.7.2")
        page = browse(site.url, old=True)
        page.wait_for_function("seen.length === 100")
        assert page.evaluate("seen") == list(range(100))
        assert len([path for path in site.requests if path.startswith("/sse/")]) <= 3

"""Without EventSource: long polling loses nothing, doubles nothing and keeps the order."""

from __future__ import annotations

import random
import threading
import time

import pytest

from tests.harness.clients import publish, stats
from tests.harness.process import until
from tests.harness.servers import SseServer
from tests.integration.browser.conftest import Open
from tests.integration.browser.site import Site, bare_page
from tests.integration.conftest import Serve

LISTEN = """
    var gaps = [], errors = 0, opens = 0;
    $.eventsource({label: 'a', url: '/sse/', data: {channels: 'a'},
        message: function (data) { seen.push(data); },
        gap: function (channels) { gaps.push(channels); }, error: function () { errors += 1; },
        open: function () { opens += 1; }});
"""


def publish_at_random_moments(server: SseServer, messages: range) -> None:
    moments = random.Random(len(messages))
    for message in messages:
        publish(server.url, "a", str(message))
        time.sleep(moments.choice([0, 0, 0.002, 0.01, 0.03, 0.08]))  # the moments are the test


def test_a_hundred_messages(server: SseServer, site: Site, browse: Open, jquery: str) -> None:
    site.pages["/"] = bare_page(LISTEN, jquery)
    page = browse(site.url, old=True)
    assert page.evaluate("typeof EventSource") == "undefined"
    until(lambda: stats(server.url) == {"a": 1}, "the first poll")
    publisher = threading.Thread(target=publish_at_random_moments, args=(server, range(100)), daemon=True)
    publisher.start()
    page.wait_for_function("seen.length >= 100")
    publisher.join()
    publish(server.url, "a", "100")
    page.wait_for_function("seen[seen.length - 1] === 100")
    assert page.evaluate("seen") == list(range(101))
    assert len([path for path in site.requests if path.startswith("/sse/")]) > 50  # it was long polling
    assert page.evaluate("[opens, errors, gaps]") == [1, 0, []]


def test_a_restart_of_the_server(server: SseServer, site: Site, browse: Open) -> None:
    site.pages["/"] = bare_page(LISTEN, "1.7.2")
    page = browse(site.url, old=True)
    until(lambda: stats(server.url) == {"a": 1}, "the first poll")
    publish_at_random_moments(server, range(20))
    page.wait_for_function("seen.length === 20")
    server.kill()
    page.wait_for_function("errors > 0")
    server.start()
    page.wait_for_function("gaps.length > 0")
    publish_at_random_moments(server, range(20, 40))
    page.wait_for_function("seen.length >= 40")
    assert page.evaluate("seen") == list(range(40))
    assert page.evaluate("[opens, gaps]") == [2, [["a"]]]


def test_polls_that_end_with_a_ping(serve: Serve, browse: Open) -> None:
    server = serve("--ping-interval=1")
    with Site(server.port) as site:
        # 700 ms without a poll after each ping: what is published then must come with the next one
        site.pages["/"] = bare_page(LISTEN.replace("url:", "retry: 700, url:"))
        page = browse(site.url, old=True)
        until(lambda: stats(server.url) == {"a": 1}, "the first poll")
        for message in range(3):
            until(lambda: stats(server.url) == {}, "the poll ended with a ping")
            publish(server.url, "a", str(message))
            page.wait_for_function(f"seen.length === {message + 1}")
            until(lambda: stats(server.url) == {"a": 1}, "the next poll")
        assert page.evaluate("[seen, opens, errors, gaps]") == [[0, 1, 2], 1, 0, []]


@pytest.mark.parametrize("lines", ["\n", "\r\n", "\r"])
def test_the_parser(site: Site, browse: Open, lines: str) -> None:
    """Types, several events in one answer, comments, unknown fields, ids, text that looks like a field."""
    answer = (
        ": hello\n\n"
        "id: 1\ndata: one\n\n"
        "event: news\ndata:  two\ndata:three\ndata\n\n"
        "event: nothing\n\n"
        "id\nretry: 20\nunknown: x\ndata: data: four\n\n"
        "id: 5\ndata: five: \u00fc\n\n"
        'event: sse-gap\ndata: {"channels": ["a"]}\n\n'
        "id: 6\n\n"
        "data: cut off"
    ).replace("\n", lines)
    script = """
        function note(data, event) { seen.push([event.type, data, event.lastEventId]); }
        $.eventsource({url: '/answer', dataType: 'text', message: note, gap: note, events: {news: note},
            error: function () { $.eventsource('close'); seen.push(this.lastEventId); }});
    """
    site.pages["/"] = bare_page(script)
    site.answers["/answer"] = [(200, "text/event-stream", answer), (502, "text/html", "Bad gateway")]
    page = browse(site.url, old=True)
    page.wait_for_function("seen[seen.length - 1] === '6'")
    assert page.evaluate("seen") == [
        ["message", "one", "1"],
        ["news", " two\nthree\n", "1"],
        ["message", "data: four", ""],
        ["message", "five: \u00fc", "5"],
        ["sse-gap", ["a"], "5"],
        "6",
    ]


def test_the_server_sets_the_pause(site: Site, browse: Open) -> None:
    script = """
        $.eventsource({url: '/answer', retry: 100000, message: function (data) { seen.push(data); }});
    """
    site.pages["/"] = bare_page(script)
    site.answers["/answer"] = [
        (200, "text/event-stream", "retry: 10\n\n: no event\n\n"),
        (200, "text/event-stream", "data: 1\n\n"),
    ]
    page = browse(site.url, old=True)
    page.wait_for_function("seen.length === 1")
    page.evaluate("$.eventsource('close')")


@pytest.mark.parametrize("refusal", [(502, "text/html", "Bad gateway"), (200, "text/html", "data: 0\n\n")])
def test_anything_but_a_stream_is_an_error_and_tried_again(
    site: Site, browse: Open, refusal: tuple[int, str, str], old: bool
) -> None:
    script = """
        var log = [];
        $.eventsource({url: '/answer?channels=a', retry: 10, open: function () { log.push('open'); },
            message: function (data) { log.push(data); }, error: function () { log.push('error'); }});
    """
    site.pages["/"] = bare_page(script)
    event = (200, "text/event-stream", "retry: 20\nid: 7\ndata: 1\n\n")
    # The status of what EventSource was refused with is not known: the next try shows it.
    refusals, events = ([refusal] * 2, [event]) if old else ([refusal] * 3, [event] * 2)
    site.answers["/answer"] = [*refusals, *events, refusal]
    page = browse(site.url, old)
    page.wait_for_function("log.length >= 7")
    page.evaluate("$.eventsource('close')")
    assert page.evaluate("log.slice(0, 5)") == ["error", "error", "open", 1, "error"]
    asked = [path for path in site.requests if path.startswith("/answer")]
    assert "lastEventId" not in asked[len(refusals)]
    assert asked[-1].endswith("&lastEventId=7")

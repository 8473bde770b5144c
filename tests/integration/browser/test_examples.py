"""The pages that README.md and docs/ show, word for word; the plugins' with every jQuery, and polling."""

from __future__ import annotations

import json

from tests.harness.clients import publish, stats
from tests.harness.docs import html
from tests.harness.process import until
from tests.harness.servers import SseServer
from tests.integration.browser.conftest import Open
from tests.integration.browser.site import Site, example_page


def test_one_stream_for_many_elements(
    server: SseServer, site: Site, browse: Open, jquery: str, old: bool
) -> None:
    site.pages["/"] = example_page("jquery.sse.js", jquery)
    page = browse(site.url, old)
    until(lambda: stats(server.url) == {"chat": 1, "weather": 1}, "one stream for both channels")
    page.wait_for_function("$('#state').text() === 'Connected.'")

    publish(server.url, "chat", json.dumps(["joined", "Ann"]))
    publish(server.url, "chat", json.dumps(["said", {"name": "Ann", "text": "Grüße!"}]))
    publish(server.url, "weather", json.dumps(["temperature", 21.5]))
    page.wait_for_function("$('#weather').text() === '21.5 °C'")
    assert page.inner_text("#guests") == "Ann is here."
    assert page.inner_text("#talk") == "Ann: Grüße!"

    publish(server.url, "chat", "no JSON")
    page.wait_for_function("$('#state').text() === 'Not understood: no JSON'")
    publish(server.url, "weather", json.dumps(["an event that no element names", 1]))
    publish(server.url, "chat", json.dumps(["left", "Ann"]))
    page.wait_for_function("$('#guests').text() === 'Ann has gone.'")
    assert page.inner_text("#weather") == "21.5 °C"
    assert len({path.partition("uuid=")[2][:36] for path in site.requests if path.startswith("/sse/")}) == 1
    assert page.faults == []


def test_a_stream_for_each_element(
    server: SseServer, site: Site, browse: Open, jquery: str, old: bool
) -> None:
    site.pages["/"] = example_page("jquery.sse.simple.js", jquery)
    page = browse(site.url, old)
    until(lambda: stats(server.url) == {"prices": 1, "build": 1, "deploy": 1}, "two streams")

    publish(server.url, "prices", '{"name": "Tea", "euro": 3.5}')
    publish(server.url, "prices", "{broken")
    publish(server.url, "build", "[1, 2] is text here")
    publish(server.url, "deploy", "ok")
    page.wait_for_function("$('#log').text() === '[1, 2] is text here\\nok\\n'")
    page.wait_for_function("$('#problem').text() === '{broken'")
    assert page.inner_text("#price") == "Tea 3.5 EUR"

    publish(server.url, "prices", '{"name": "Tea", "euro": 4}')
    page.wait_for_function("$('#price').text() === 'Tea 4 EUR'")
    page.evaluate("$.eventsource('close', 'log')")
    until(lambda: stats(server.url) == {"prices": 1}, "the log's stream is closed")
    assert page.faults == []


def test_plain_event_source(server: SseServer, site: Site, browse: Open) -> None:
    """README.md shows it: after a gap it fetches the state, and does not reload itself."""
    (listen,) = html("README.md")
    site.pages["/"] = listen.replace("Math.random()", "0")
    site.pages["/state.json"] = '["the state"]'
    page = browse(site.url)
    page.evaluate("() => { window.shown = []; window.show = (value) => shown.push(value); }")
    until(lambda: stats(server.url) == {"base": 1, "news": 1}, "the stream")
    publish(server.url, "news", "[1]")
    page.wait_for_function("JSON.stringify(shown) === '[[1]]'")
    page.evaluate("source.dispatchEvent(new MessageEvent('sse-gap', {data: '{}'}))")
    page.wait_for_function("JSON.stringify(shown) === '[[1],[\"the state\"]]'")


def test_listening(server: SseServer, site: Site, browse: Open) -> None:
    after_gap, earliest, _, other_origin = html("listening.md")
    publish(server.url, "news", "[0]")
    site.pages["/"] = (
        earliest + "<script>var seen = []; source.onmessage = (e) => seen.push(e.data);</script>"
    )
    page = browse(site.url)
    page.wait_for_function("seen.length === 1")
    publish(server.url, "news", "[1]")
    page.wait_for_function("seen.length === 2")
    assert page.evaluate("seen") == ["[0]", "[1]"]
    site.pages["/"] = after_gap.replace("Math.random()", "0")
    site.pages["/state.json"] = '{"title": "as it is now"}'
    page.goto(site.url)
    page.evaluate("source.dispatchEvent(new MessageEvent('sse-gap', {data: '{}'}))")
    page.wait_for_function("document.title === 'as it is now'")
    assert "withCredentials: true" in other_origin  # test_cross_origin.py has one


def test_state_then_stream(server: SseServer, site: Site, browse: Open) -> None:
    """What is published before the state is read is applied to it, unless the state has it already.

    The first request fails, and is repeated.
    """
    (listen,) = [text for text in html("listening.md") if "early" in text]
    state = {"a": {"id": "a", "version": 3}, "b": {"id": "b", "version": 1}}
    site.pages["/board.json"] = json.dumps(state)
    site.pages["/"] = listen.replace("fetch(", "window.go().then(() => fetch(").replace(
        "'/board.json')", "'/board.json'))"
    )
    site.pages["/"] = (
        "<script>let failed; window.go = () => new Promise((ok, fail) => "
        "failed ? (window.read = ok) : fail(failed = true));</script>"
    ) + site.pages["/"].replace("5000)", "0)")
    page = browse(site.url)
    page.wait_for_function("!!window.read")
    for row in ({"id": "a", "version": 2}, {"id": "b", "version": 2}, {"id": "c", "version": 1}):
        publish(server.url, "board", json.dumps(row))
    page.wait_for_function("early.length === 3")
    page.evaluate("window.read()")
    page.wait_for_function("state && early.length === 0")
    publish(server.url, "board", json.dumps({"id": "c", "version": 2}))
    page.wait_for_function("state.c.version === 2")
    assert page.evaluate("[state.a.version, state.b.version]") == [3, 2]


def test_a_change_while_the_state_is_read_twice(server: SseServer, site: Site, browse: Open) -> None:
    """As when the connection is lost during the first reading: the older of the two readings is dropped."""
    (listen,) = [text for text in html("listening.md") if "early" in text]
    hold = "<script>window.reads = []; window.fetch = () => new Promise((ok) => reads.push(ok));</script>"
    site.pages["/"] = hold + listen
    page = browse(site.url)
    page.wait_for_function("reads.length === 1")
    page.evaluate("source.onopen()")
    publish(server.url, "board", json.dumps({"id": "a", "version": 2}))
    page.wait_for_function("early.length === 1")
    page.evaluate("reads.forEach((ok) => ok({json: () => Promise.resolve({a: {id: 'a', version: 1}})}))")
    page.wait_for_function("state")
    assert page.evaluate("state.a.version") == 2

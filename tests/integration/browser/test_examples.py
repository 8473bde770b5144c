"""The README's two complete pages, word for word, with every jQuery, in a new browser and in an old one."""

from __future__ import annotations

import json
import re

from tests.integration.browser.conftest import Open
from tests.integration.browser.site import README, Site, example_page
from tests.integration.clients import publish, stats
from tests.integration.process import until
from tests.integration.servers import SseServer


def test_one_stream_for_many_elements(
    server: SseServer, site: Site, browse: Open, jquery: str, old: bool
) -> None:
    site.pages["/"] = example_page("jquery.sse.js", jquery)
    page = browse(site.url, old)
    until(lambda: stats(server.url) == {"chat": 1, "weather": 1}, what="one stream for both channels")
    page.wait_for_function("$('#state').text() === 'Connected.'")

    publish(server.url, "chat", json.dumps(["joined", "Ann"]))
    publish(server.url, "chat", json.dumps(["said", {"name": "Ann", "text": "Grüße!"}]))
    publish(server.url, "weather", json.dumps(["temperature", 21.5]))
    page.wait_for_function("$('#weather').text() === '21.5 °C'")
    assert page.inner_text("#guests") == "Ann is here."
    assert page.inner_text("#talk") == "Ann: Grüße!"

    publish(server.url, "chat", "no JSON")
    page.wait_for_function("$('#state').text() === 'Not understood: no JSON'")
    publish(server.url, "weather", json.dumps(["an event nobody names", 1]))
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
    until(lambda: stats(server.url) == {"prices": 1, "build": 1, "deploy": 1}, what="two streams")

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
    until(lambda: stats(server.url) == {"prices": 1}, what="the log's stream is closed")
    assert page.faults == []


def test_plain_event_source(server: SseServer, site: Site, browse: Open) -> None:
    listen, earliest, other_origin = re.findall(r"```html\n(<script>.*?)```", README.read_text(), re.DOTALL)
    publish(server.url, "news", "[0]")
    site.pages["/"] = listen
    page = browse(site.url)
    until(lambda: stats(server.url) == {"base": 1, "news": 1}, what="the stream")
    with page.expect_console_message(lambda message: message.text.endswith(" [1]")):
        publish(server.url, "news", "[1]")

    site.pages["/"] = (
        earliest + "<script>var seen = []; source.onmessage = (e) => seen.push(e.data);</script>"
    )
    page.goto(site.url)
    page.wait_for_function("seen.length === 2")
    assert page.evaluate("seen") == ["[0]", "[1]"]
    assert "withCredentials: true" in other_origin  # test_cross_origin.py has one

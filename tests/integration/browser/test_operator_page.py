"""The operator's page in Chromium: what it shows, wide and narrow, and that it ends streams."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest

from tests.harness.clients import Subscriber, publish
from tests.harness.ports import free_port, free_ports
from tests.integration.browser.conftest import Open
from tests.integration.conftest import Serve
from tests.unit.access.keys import SECRET, token

SIZES = {"wide": {"width": 1280, "height": 900}, "narrow": {"width": 360, "height": 740}}


def join(url: str, user: str, *channels: str) -> Subscriber:
    """A stream of a user."""
    bearer = {"Authorization": f"Bearer {token(subscribe=['*'], sub=user)}"}
    return Subscriber(url, channels, headers=bearer)


def wait_text(page: Any, selector: str, text: str) -> None:
    """Wait until an element shows this."""
    page.wait_for_function(
        "([selector, text]) => document.querySelector(selector).textContent.includes(text)",
        arg=[selector, text],
    )


@pytest.mark.parametrize("size", SIZES)
def test_it_shows_what_happens_and_ends_a_users_streams(serve: Serve, browse: Open, size: str) -> None:
    port = free_port()
    server = serve(f"--admin-port={port}", f"--jwt-secret={SECRET}", "--http-secret=key")
    outside: list[str] = []
    with ExitStack() as streams:
        ann = [streams.enter_context(join(server.url, "ann", "room", "user-ann")) for _ in range(3)]
        streams.enter_context(join(server.url, "bob", "room"))
        page = browse(f"http://127.0.0.1:{port}/", viewport=SIZES[size], bypass_csp=False)
        page.on("request", lambda request: outside.append(request.url))
        wait_text(page, "#subscribers", "4")
        wait_text(page, "#state", "ready")
        wait_text(page, "#top", "room")
        publish(server.url, "room", "x", key="key")
        page.fill("[name=user]", "ann")
        page.click("text=Find")
        wait_text(page, "#found", "3 streams:")
        wait_text(page, "#streams", "127.0.0.1")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= SIZES[size]["width"], "nothing sticks out"
        page.on("dialog", lambda dialog: dialog.accept())
        page.click("text=End these streams")
        for stream in ann:
            stream.wait_end()
        wait_text(page, "#subscribers", "1")
        wait_text(page, "#reasons", "ended")
    assert page.faults == []
    assert all(url.startswith(f"http://127.0.0.1:{port}/") for url in outside)


def test_with_workers_it_shows_all_of_them(serve: Serve, browse: Open, redis_server: Any) -> None:
    port, _ = free_ports(2)  # each worker has its own
    server = serve(
        "--broker=redis-stream", f"--redis-port={redis_server.port}", "--workers=2", f"--admin-port={port}"
    )
    with ExitStack() as streams:
        for _ in range(12):
            streams.enter_context(Subscriber(server.url, "room"))
        page = browse(f"http://127.0.0.1:{port}/", bypass_csp=False)
        wait_text(page, "#subscribers", "12")
        assert page.locator("#which option").count() == 3
        wait_text(page, "#channels", "at least 1")  # they have it in common
        page.fill("[name=channel]", "room")
        page.click("text=Find")
        wait_text(page, "#found", "12 streams:")
    assert page.faults == []

"""States, members and `except` with the module in Chromium, alone and where tabs share a connection."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.harness.clients import publish, request, stats
from tests.harness.process import until
from tests.harness.servers import SseServer
from tests.integration.browser.conftest import Open
from tests.integration.browser.site import Site, module_page
from tests.integration.conftest import Serve

SECRET = "a secret of at least 32 bytes, or none"
PAGE = """
    const options = JSON.parse(decodeURIComponent(location.search.slice(1) || '{}'));
    window.stream = connect('/sse/', {channels: ['room-1'], ...options});
    stream.on('message', (event) => seen.push(event.json));
    if (options.presence) {
        window.rooms = [];
        stream.on('presence', (room) => rooms.push(room));
    }
"""
Tab = Any  # playwright.sync_api.Page


def form(url: str, **fields: str) -> None:
    """Publish with fields that `publish` does not have."""
    body = "&".join(f"{name}={value}" for name, value in fields.items())
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert request("POST", f"{url}/publish", body=body.encode(), headers=kind).status == 200


@pytest.fixture
def server(serve: Serve, tmp_path: Path) -> SseServer:
    """A server whose channels room-* have presence; streams without a token are anonymous."""
    kinds = tmp_path / "channels.toml"
    kinds.write_text('["room-*"]\npresence = true\n')
    return serve(f"--channels={kinds}", "--presence-grace=0", "--ping-interval=5", "--history-size=100000")


@pytest.fixture
def around(server: SseServer) -> Iterator[Site]:
    with Site(server.port) as site:
        site.pages["/"] = module_page(PAGE)
        yield site


@pytest.fixture
def browser(open_profile: Open, around: Site) -> Callable[[], Callable[..., Tab]]:
    """`browser()` is a profile: its result opens tabs with these options."""

    def profile() -> Callable[..., Tab]:
        context = open_profile()

        def open_tab(state: str = "open", /, **options: Any) -> Tab:
            page = context.new_page()
            page.goto(f"{around.url}/?{json.dumps(options)}")
            page.wait_for_function("(state) => window.stream?.state === state", arg=state)
            return page

        return open_tab

    return profile


@pytest.mark.parametrize("shared", [False, True])
def test_state_and_stream_have_no_seam(
    server: SseServer, browser: Callable[[], Callable[..., Tab]], shared: bool
) -> None:
    """Each message is the whole state: a page must never step back, and end with the last."""
    ended = threading.Event()
    counts = [0]

    def busy() -> None:
        while not ended.wait(0.003):
            counts[0] += 1
            form(server.url, channel="room-1", message=str(counts[0]), keep="1" if counts[0] % 3 else "0")

    form(server.url, channel="room-1", message="0", keep="1")
    open_tab = browser()
    publisher = threading.Thread(target=busy, daemon=True)
    publisher.start()
    try:
        tabs = [open_tab(state=True, shared=shared) for _ in range(4)]
        tabs[0].evaluate("stream.add('room-2')")  # a channel that starts on the open connection
        tabs[3].wait_for_function("seen.length > 50")
    finally:
        ended.set()
        publisher.join()
    form(server.url, channel="room-1", message="1000000", keep="1")
    for tab in tabs:
        tab.wait_for_function("seen.includes(1000000)")
        seen = tab.evaluate("seen")
        assert seen == sorted(set(seen))
        # after its state (every third message is none) it has every message
        start = next(number for number in seen if number > seen[0] + 2)
        assert [number for number in seen if number >= start] == [*range(start, counts[0] + 1), 1_000_000]


def test_a_page_that_opens_later_has_the_state(
    server: SseServer, browser: Callable[[], Callable[..., Tab]]
) -> None:
    form(server.url, channel="room-1", message="1", keep="1")
    form(server.url, channel="room-1", message="2")
    open_tab = browser()
    tabs = [open_tab(state=True, shared=True), open_tab(state=True, shared=True), open_tab(shared=True)]
    publish(server.url, "room-1", "3")
    for tab, expected in zip(tabs, ([1, 3], [1, 3], [3]), strict=True):
        tab.wait_for_function("seen.includes(3)")
        assert tab.evaluate("seen") == expected


def test_a_connection_that_breaks_between_the_states(
    server: SseServer, around: Site, browser: Callable[[], Callable[..., Tab]]
) -> None:
    """Each tab has all of its states once, and the stream after them."""
    form(server.url, channel="room-1", message="1", keep="1")
    form(server.url, channel="room-2", message=f'"{"x" * 20_000}"', keep="1")
    open_tab = browser()
    around.limit = 5000
    first = open_tab("connecting", channels=["room-1", "room-2"], state=True, shared=True)
    until(lambda: around.limit is None and stats(server.url).get("room-2") == 1, "the answer that is cut")
    second = open_tab("connecting", state=True, shared=True)
    around.heal()
    first.wait_for_function("seen.length === 2")
    form(server.url, channel="room-2", message="2")
    publish(server.url, "room-1", "3")
    for tab, expected in ((first, [1, "x" * 20_000, 2, 3]), (second, [1, 3])):
        tab.wait_for_function("seen.includes(3)")
        assert tab.evaluate("seen") == expected


def test_members(
    serve: Serve, tmp_path: Path, around: Site, browser: Callable[[], Callable[..., Tab]]
) -> None:
    private = serve(
        f"--channels={tmp_path / 'channels.toml'}", "--presence-grace=0", f"--jwt-secret={SECRET}"
    )
    around.backend_port = private.port

    def token(user: str) -> str:
        claims = {"sub": user, "info": {"name": user.title()}, "subscribe": ["*"], "exp": time.time() + 3600}
        return jwt.encode(claims, SECRET, "HS256")

    ann, bob = browser(), browser()
    first = ann(token=token("ann"), shared=True, presence=True)
    second = ann(token=token("ann"), shared=True, presence=True)
    for tab in (first, second):
        tab.wait_for_function('JSON.stringify(rooms.at(-1)?.members) === \'{"ann":{"name":"Ann"}}\'')
    other = bob(token=token("bob"), presence=True)
    for tab in (first, second, other):
        tab.wait_for_function("rooms.at(-1)?.count === 2")
        # not `joined`: a tab that leads in place of one that stood still has the whole list
        assert tab.evaluate("rooms.at(-1).members.bob") == {"name": "Bob"}
    other.close()
    for tab in (first, second):
        tab.wait_for_function("rooms.at(-1).count === 1")
        assert list(tab.evaluate("rooms.at(-1).members")) == ["ann"]
    first.close()  # it led; the user stays
    second.wait_for_function("stream.state === 'open'")
    third = ann(token=token("ann"), shared=True, presence=True)
    third.wait_for_function("rooms.at(-1)?.count === 1")


def test_an_event_that_is_not_for_the_tab_that_published_it(
    server: SseServer, browser: Callable[[], Callable[..., Tab]]
) -> None:
    ours, theirs = browser(), browser()
    tabs = [ours(shared=True), ours(shared=True), theirs(), theirs()]
    for tab in tabs:
        form(server.url, channel="room-1", message="1", **{"except": tab.evaluate("stream.client")})
    publish(server.url, "room-1", "2")
    for tab in tabs:
        tab.wait_for_function("seen.includes(2)")
        assert tab.evaluate("seen") == [1, 1, 1, 2]
    room = f"{server.url}/presence?channel=room-1"
    until(lambda: request("GET", room).json["anonymous"] == 3, "three streams, none of them twice")

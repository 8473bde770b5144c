"""`shared: true`: all tabs of a browser on one connection, whatever happens to the tab that holds it."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest

from tests.harness.clients import publish, stats
from tests.harness.patience import PATIENCE
from tests.harness.process import until
from tests.harness.servers import SseServer
from tests.integration.browser.conftest import Open
from tests.integration.browser.site import Site, module_page
from tests.integration.conftest import Serve

PAGE = """
    const options = JSON.parse(decodeURIComponent(location.search.slice(1) || '{}'));
    window.states = []; window.gaps = []; window.told = []; window.ids = [];
    window.stream = connect('/sse/', {shared: true, ...options});
    stream.on('message', (event) => { seen.push(event.json); ids.push(event.lastEventId); });
    stream.on('state', (event) => { states.push(event.state); told.push(event); });
    stream.on('gap', ({channels}) => gaps.push(channels));
"""
SECRET = "a secret of at least 32 bytes, or none"
WITHOUT = {
    "Web Locks": "Object.defineProperty(Navigator.prototype, 'locks', {value: undefined});",
    "BroadcastChannel": "delete window.BroadcastChannel;",
}

Tab = Any  # playwright.sync_api.Page
Tabs = Callable[..., list[Tab]]


@pytest.fixture
def server(serve: Serve) -> SseServer:
    """A daemon that keeps what a busy test publishes in some seconds."""
    return serve("--history-size=100000", "--ping-interval=5")


@pytest.fixture
def around(server: SseServer) -> Iterator[Site]:
    """The site around it."""
    with Site(server.port) as site:
        site.pages["/"] = module_page(PAGE)
        yield site


@pytest.fixture
def tabs(open_profile: Open, around: Site) -> Tabs:
    """`tabs({"channels": ["a"]}, ...)` opens a tab for each of these options, all in one profile."""
    context = open_profile()

    def open_tabs(*options: dict[str, Any], without: str = "") -> list[Tab]:
        opened = []
        for wanted in options:
            opened.append(context.new_page())
            if without:
                opened[-1].add_init_script(WITHOUT[without])
            opened[-1].goto(f"{around.url}/?{json.dumps(wanted)}")
        for tab in opened:
            tab.wait_for_function("['open', 'stopped'].includes(window.stream?.state)")
        return opened

    return open_tabs


class Publisher:
    """Publishes numbers to random channels until the block ends; `told` lists (channels, number)."""

    def __init__(self, server: SseServer, channels: list[str], pause: float = 0.01) -> None:
        self.server = server
        self.channels = channels
        self.pause = pause  # seconds
        self.told: list[tuple[list[str], int]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        dice = random.Random(len(self.channels))
        while not self._ended.wait(self.pause):
            chosen = dice.sample(self.channels, dice.choice([1, 1, 1, 2]))
            self.told.append((chosen, len(self.told)))
            publish(self.server.url, chosen, str(len(self.told) - 1))

    def __enter__(self) -> Publisher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, with one more for all channels."""
        self._ended.set()
        self._thread.join()
        self.told.append((self.channels, len(self.told)))
        publish(self.server.url, self.channels, str(len(self.told) - 1))

    def check(self, tab: Tab, channels: list[str], since: int = 0) -> None:
        """The tab has all that was published to its channels since its first, once and in order.

        since: or since this number, if it is later.
        """
        expected = [number for names, number in self.told if set(names) & set(channels)]
        tab.wait_for_function(f"seen.includes({expected[-1]})")
        seen = tab.evaluate("seen")
        since = max(since, seen[0])
        assert [number for number in seen if number >= since] == [n for n in expected if n >= since]


def one_connection(server: SseServer, count: int = 1) -> None:
    """Wait until the server has that many; all tabs here subscribe to the channel `all`."""
    until(lambda: stats(server.url).get("all") == count, f"{count} connections")


def own(number: int) -> dict[str, Any]:
    """The options of a tab with a channel that all have, and one of its own.

    By silence alone, no tab notices within `PATIENCE` that it has no connection.
    """
    return {"channels": ["all", f"own-{number}"], "ping": 1_000 * int(PATIENCE)}


def token(*subscribe: str, **claims: Any) -> str:
    """A token that allows its owner to subscribe to these channels for an hour."""
    return jwt.encode({"exp": time.time() + 3600, "subscribe": subscribe, **claims}, SECRET, "HS256")


def test_ten_tabs(server: SseServer, tabs: Tabs) -> None:
    """Four more than a browser has connections for over HTTP/1.1."""
    opened = tabs(*map(own, range(10)))
    one_connection(server)
    channels = ["all", *(f"own-{number}" for number in range(10)), "of no tab"]
    with Publisher(server, channels, pause=0.001) as publisher:
        until(lambda: len(publisher.told) > 500, "500 events")
    for number, tab in enumerate(opened):
        publisher.check(tab, ["all", f"own-{number}"])
        assert tab.evaluate("gaps") == []
    one_connection(server)


def crash(tab: Tab) -> None:
    with tab.expect_event("crash"), pytest.raises(Exception, match="crash"):
        tab.goto("chrome://crash")


def freeze(tab: Tab) -> None:
    """Stop its scripts by the debugger: the browser itself freezes none that can be seen or holds a lock."""
    tab.debugger = tab.context.new_cdp_session(tab)
    tab.debugger.send("Debugger.enable")
    tab.debugger.send("Debugger.pause")


ENDS: dict[str, Callable[[Tab], object]] = {
    "closed": lambda tab: tab.close(),
    "left": lambda tab: tab.goto("about:blank"),
    "crashed": crash,
    "frozen": freeze,
    "stopped listening": lambda tab: tab.evaluate("stream.close()"),
}


@pytest.mark.parametrize("how", ENDS)
def test_another_tab_goes_on(server: SseServer, around: Site, tabs: Tabs, how: str) -> None:
    (first,) = tabs(own(0))  # alone, so that it is this one that leads
    others = tabs(*map(own, range(1, 6)))
    one_connection(server)
    channels = ["all", *(f"own-{number}" for number in range(6))]
    with Publisher(server, channels) as publisher:
        others[0].wait_for_function("seen.length > 10")
        asked = len(around.requests)
        ENDS[how](first)
        until(lambda: len(around.requests) > asked, "the next connection")
        count = others[-1].evaluate("seen.length")
        others[-1].wait_for_function(f"seen.length > {count} + 10")
    for number, tab in enumerate(others, start=1):
        publisher.check(tab, ["all", f"own-{number}"])
        assert tab.evaluate("gaps") == []
    if how == "frozen":
        first.debugger.send("Debugger.disable")  # and so go on
        publisher.check(first, ["all", "own-0"])
    one_connection(server)


def test_one_after_another(server: SseServer, tabs: Tabs) -> None:
    opened = tabs(*map(own, range(5)))
    channels = ["all", *(f"own-{number}" for number in range(5))]
    with Publisher(server, channels) as publisher:
        for number in range(4):
            last = opened[-1]
            opened[number].close()
            count = last.evaluate("seen.length")
            last.wait_for_function(f"seen.length > {count} + 20")
    publisher.check(opened[-1], ["all", "own-4"])
    until(lambda: set(stats(server.url)) == {"all", "own-4"}, "the channels of the others are released")


@pytest.mark.parametrize("how", ["closed", "crashed"])
def test_the_channels_of_a_tab_that_has_gone(server: SseServer, tabs: Tabs, how: str) -> None:
    _, second = tabs(own(0), own(1))
    ENDS[how](second)
    until(lambda: set(stats(server.url)) == {"all", "own-0"}, "its channel is released")


def test_a_tab_that_opens_later(server: SseServer, tabs: Tabs) -> None:
    """It starts after its own id, or with the next event; no other tab receives an event twice."""
    (first,) = tabs(own(0))
    for number in range(10):
        publish(server.url, "own-1" if number % 2 else "all", str(number))
    first.wait_for_function("seen.length === 5")
    (since,) = tabs({**own(1), "lastEventId": first.evaluate("ids.at(-2)")})  # that of 6
    since.wait_for_function("seen.length === 3")
    (all_of_it,) = tabs({"channels": ["own-1"], "lastEventId": "earliest"})
    all_of_it.wait_for_function("seen.length === 5")
    (from_now_on,) = tabs({"channels": ["own-1", "all"]})
    (new_channel,) = tabs({"channels": ["new", "all"]})
    publish(server.url, ["all", "own-1"], "10")
    for tab, expected in [
        (first, [0, 2, 4, 6, 8, 10]),
        (since, [7, 8, 9, 10]),
        (all_of_it, [1, 3, 5, 7, 9, 10]),
        (from_now_on, [10]),
        (new_channel, [10]),
    ]:
        tab.wait_for_function("seen.includes(10)")
        assert tab.evaluate("[seen, gaps]") == [expected, []]
    one_connection(server)


def test_a_tab_on_a_busy_connection(server: SseServer, tabs: Tabs) -> None:
    """Tabs come and change their channels while events come."""
    (first,) = tabs(own(0))
    channels = ["all", "own-0", "own-1", "own-2", "own-3"]
    with Publisher(server, channels, pause=0.002) as publisher:
        first.wait_for_function("seen.length > 10")
        late = tabs(own(1), own(2))
        until(lambda: set(stats(server.url)) >= {"own-1", "own-2"}, "the channels of the tabs that came")
        opened = len(publisher.told)
        late[0].wait_for_function("seen.length > 10")
        late[0].evaluate("stream.add('own-3')")
        until(lambda: set(stats(server.url)) == set(channels), "the channel that was added")
        first.wait_for_function("seen.length > 300")
    publisher.check(first, ["all", "own-0"])
    # Until the connection has its own channel, it may have missed events of that one alone.
    publisher.check(late[1], ["all", "own-2"], since=opened)
    late[0].wait_for_function(f"seen.includes({publisher.told[-1][1]})")
    seen = late[0].evaluate("seen")
    assert len(seen) == len(set(seen))


def test_whose_tokens_differ_share_nothing(serve: Serve, around: Site, tabs: Tabs) -> None:
    """The times of a token do not count: each page is rendered with one of its own."""
    private = serve(f"--jwt-secret={SECRET}")
    around.backend_port = private.port
    ann = [{**own(0), "token": token("*", sub="ann", jti=number)} for number in ("1", "2")]
    bob = {**own(1), "token": token("*", sub="bob")}
    less = {**own(1), "token": token("all", "own-1", sub="bob")}
    tabs(*ann, bob, less)
    one_connection(private, 3)


def test_names_keep_groups_apart(server: SseServer, tabs: Tabs) -> None:
    tabs({**own(0), "shared": "user 1"}, {**own(0), "shared": "user 1"}, {**own(0), "shared": "user 2"})
    one_connection(server, 2)


@pytest.mark.parametrize("without", WITHOUT)
def test_a_browser_without(server: SseServer, tabs: Tabs, without: str) -> None:
    opened = tabs(own(0), own(1), without=without)
    one_connection(server, 2)
    publish(server.url, ["own-1"], "1")
    opened[1].wait_for_function("seen.length === 1")
    assert opened[0].evaluate("seen") == []


def test_a_tab_that_is_refused(serve: Serve, around: Site, tabs: Tabs) -> None:
    """It stops, and no other tab with it; also when its right ends later."""
    private = serve(f"--jwt-secret={SECRET}", "--http-secret=k")
    around.backend_port = private.port
    around.pages["/token"] = token("all", "own-0", "own-2")
    asking = PAGE.replace("...options", "...options, token: async () => (await fetch('/token')).text()")
    around.pages["/"] = module_page(asking)
    opened = tabs(own(0), own(1), own(2))
    state = opened[1].evaluate("told.at(-1)")
    assert (state["state"], state["status"]) == ("stopped", 403)
    assert "own-1" in state["reason"]
    around.pages["/token"] = token("all", "own-0")
    around.heal()  # cuts the connection
    opened[2].wait_for_function("stream.state === 'stopped'")
    opened[0].wait_for_function("stream.state === 'open'")
    publish(private.url, "all", "1", key="k")
    opened[0].wait_for_function("seen.length === 1")
    assert opened[0].evaluate("states.includes('stopped')") is False


def test_all_wait_and_come_back(server: SseServer, around: Site, tabs: Tabs) -> None:
    opened = tabs(own(0), own(1), own(2))
    around.heal()  # cuts the connection
    for tab in opened:
        tab.wait_for_function("states.includes('waiting')")
    publish(server.url, ["all"], "1")
    for tab in opened:
        tab.wait_for_function("seen.length === 1 && stream.state === 'open'")

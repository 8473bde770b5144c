"""`shared: true`: all tabs of a browser on one connection, whatever happens to the tab that holds it."""

from __future__ import annotations

import base64
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.browser.site import Site, module_page
from tests.integration.browser.stand_in import StandIn
from tests.integration.clients import stats
from tests.integration.process import until

PAGE = """
    const options = JSON.parse(decodeURIComponent(location.search.slice(1) || '{}'));
    window.states = []; window.gaps = []; window.told = [];
    window.stream = connect('/sse/', {shared: true, ...options});
    stream.on('message', (event) => seen.push(event.json));
    stream.on('state', (event) => { states.push(event.state); told.push(event); });
    stream.on('gap', ({channels}) => gaps.push(channels));
"""
TAKEN_OVER = 3.0  # seconds in which another tab goes on
WITHOUT = {
    "Web Locks": "Object.defineProperty(Navigator.prototype, 'locks', {value: undefined});",
    "BroadcastChannel": "delete window.BroadcastChannel;",
}

Tab = Any  # playwright.sync_api.Page
Tabs = Callable[..., list[Tab]]


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with StandIn() as running:
        yield running


@pytest.fixture
def tabs(chromium: Any, stand_in: StandIn) -> Iterator[Tabs]:
    """`tabs({"channels": ["a"]}, ...)` opens a tab for each of these options, all in one profile."""
    with Site(stand_in.port) as site:
        site.pages["/"] = module_page(PAGE)
        context = chromium.new_context()
        context.set_default_timeout(20_000)  # ms; a limit, nothing waits for it to pass

        def open_tabs(*options: dict[str, Any], without: str = "") -> list[Tab]:
            opened = []
            for wanted in options:
                opened.append(context.new_page())
                if without:
                    opened[-1].add_init_script(WITHOUT[without])
                opened[-1].goto(f"{site.url}/?{json.dumps(wanted)}")
            for tab in opened:
                tab.wait_for_function("['open', 'stopped'].includes(window.stream?.state)")
            return opened

        yield open_tabs
        context.close()


class Publisher:
    """Publishes numbers to channels at random until it is left; `told` are (channels, number)."""

    def __init__(self, server: StandIn, channels: list[str], pause: float = 0.01) -> None:
        self.server = server
        self.channels = channels
        self.pause = pause  # seconds
        self.told: list[tuple[list[str], int]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        dice = random.Random(len(self.channels))
        while not self._ended.wait(self.pause):
            chosen = dice.sample(self.channels, dice.choice([1, 1, 1, 2]))
            self.told.append((chosen, len(self.told)))
            self.server.publish(chosen, str(len(self.told) - 1))

    def __enter__(self) -> Publisher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, with one more for everybody."""
        self._ended.set()
        self._thread.join()
        self.told.append((self.channels, len(self.told)))
        self.server.publish(self.channels, str(len(self.told) - 1))

    def check(self, tab: Tab, channels: list[str]) -> None:
        """The tab has all that was published to its channels since its first, once and in order."""
        expected = [number for names, number in self.told if set(names) & set(channels)]
        tab.wait_for_function(f"seen.includes({expected[-1]})")
        seen = tab.evaluate("seen")
        assert seen == [number for number in expected if number >= seen[0]]


def own(number: int) -> dict[str, Any]:
    """The options of a tab with a channel that all have, and one of its own."""
    return {"channels": ["all", f"own-{number}"]}


def token(**claims: Any) -> str:
    """A token in the form of a JWT; nobody here checks its signature."""
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.{random.random()}"


def test_ten_tabs(stand_in: StandIn, tabs: Tabs) -> None:
    """Four more than a browser has connections for over HTTP/1.1."""
    opened = tabs(*map(own, range(10)))
    until(lambda: len(stand_in.streams) == 1, what="one connection")
    channels = ["all", *(f"own-{number}" for number in range(10)), "nobody's"]
    with Publisher(stand_in, channels, pause=0.001) as publisher:
        until(lambda: len(publisher.told) > 500, what="500 events")
    for number, tab in enumerate(opened):
        publisher.check(tab, ["all", f"own-{number}"])
        assert tab.evaluate("gaps") == []
    until(lambda: len(stand_in.streams) == 1, what="one connection")


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
def test_another_tab_goes_on(stand_in: StandIn, tabs: Tabs, how: str) -> None:
    first, *others = tabs(*map(own, range(6)))
    until(lambda: len(stand_in.streams) == 1, what="one connection")
    channels = ["all", *(f"own-{number}" for number in range(6))]
    leader = stand_in.streams[0]
    with Publisher(stand_in, channels) as publisher:
        others[0].wait_for_function("seen.length > 10")
        ENDS[how](first)
        begun = time.monotonic()
        until(lambda: any(stream is not leader for stream in stand_in.streams), what="the next connection")
        assert time.monotonic() - begun < TAKEN_OVER
        count = others[-1].evaluate("seen.length")
        others[-1].wait_for_function(f"seen.length > {count} + 10")
    for number, tab in enumerate(others, start=1):
        publisher.check(tab, ["all", f"own-{number}"])
        assert tab.evaluate("gaps") == []
    if how == "frozen":
        first.debugger.send("Debugger.disable")  # and so go on
        publisher.check(first, ["all", "own-0"])
    until(lambda: len(stand_in.streams) == 1, what="one connection")


def test_one_after_another(stand_in: StandIn, tabs: Tabs) -> None:
    opened = tabs(*map(own, range(5)))
    channels = ["all", *(f"own-{number}" for number in range(5))]
    with Publisher(stand_in, channels) as publisher:
        for number in range(4):
            last = opened[-1]
            opened[number].close()
            count = last.evaluate("seen.length")
            last.wait_for_function(f"seen.length > {count} + 20")
    publisher.check(opened[-1], ["all", "own-4"])
    until(lambda: set(stats(stand_in.url)) == {"all", "own-4"}, what="the channels of the others are let go")


@pytest.mark.parametrize("how", ["closed", "crashed"])
def test_the_channels_of_a_tab_that_has_gone(stand_in: StandIn, tabs: Tabs, how: str) -> None:
    _, second = tabs(own(0), own(1))
    ENDS[how](second)
    until(lambda: set(stats(stand_in.url)) == {"all", "own-0"}, what="its channel is let go")


def test_a_tab_that_opens_later(stand_in: StandIn, tabs: Tabs) -> None:
    """It starts after its own id, or with what comes from then on; nobody else hears anything twice."""
    (first,) = tabs(own(0))
    for number in range(10):
        stand_in.publish(["own-1" if number % 2 else "all"], str(number))
    first.wait_for_function("seen.length === 5")
    ids = first.evaluate("stream.lastEventId").split("-")
    third_last = "-".join([str(int(ids[0]) - 2), *ids[1:]])  # of number 6: 8 is the last that it has heard
    (since,) = tabs({**own(1), "lastEventId": third_last})
    since.wait_for_function("seen.length === 3")
    (all_of_it,) = tabs({"channels": ["own-1"], "lastEventId": "earliest"})
    all_of_it.wait_for_function("seen.length === 5")
    (from_now_on,) = tabs({"channels": ["own-1", "all"]})
    (new_channel,) = tabs({"channels": ["new", "all"]})
    stand_in.publish(["all", "own-1"], "10")
    for tab, expected in [
        (first, [0, 2, 4, 6, 8, 10]),
        (since, [7, 8, 9, 10]),
        (all_of_it, [1, 3, 5, 7, 9, 10]),
        (from_now_on, [10]),
        (new_channel, [10]),
    ]:
        tab.wait_for_function("seen.includes(10)")
        assert tab.evaluate("[seen, gaps]") == [expected, []]
    until(lambda: len(stand_in.streams) == 1, what="one connection")


def test_a_tab_on_a_busy_connection(stand_in: StandIn, tabs: Tabs) -> None:
    """Tabs come and change their channels while events come."""
    (first,) = tabs(own(0))
    channels = ["all", "own-0", "own-1", "own-2", "own-3"]
    with Publisher(stand_in, channels, pause=0.002) as publisher:
        first.wait_for_function("seen.length > 10")
        late = tabs(own(1), own(2))
        late[0].wait_for_function("seen.length > 10")
        late[0].evaluate("stream.add('own-3')")
        until(lambda: set(stats(stand_in.url)) == set(channels), what="the channel that was added")
        first.wait_for_function("seen.length > 300")
    publisher.check(first, ["all", "own-0"])
    publisher.check(late[1], ["all", "own-2"])
    late[0].wait_for_function(f"seen.includes({publisher.told[-1][1]})")
    seen = late[0].evaluate("seen")
    assert len(seen) == len(set(seen))


def test_whose_tokens_differ_share_nothing(stand_in: StandIn, tabs: Tabs) -> None:
    """The times of a token do not count: each page is rendered with one of its own."""
    ann = [{**own(0), "token": token(sub="ann", subscribe=["all"], exp=exp)} for exp in (1, 2)]
    bob = {**own(1), "token": token(sub="bob", subscribe=["all"], exp=1)}
    other = [{**own(2), "token": text} for text in ("no JWT", "another")]
    tabs(*ann, bob, *other)
    until(lambda: len(stand_in.streams) == 4, what="a connection for each")
    assert {stream.token for stream in stand_in.streams} >= {
        "Bearer " + text for text in (bob["token"], "another")
    }


def test_names_keep_groups_apart(stand_in: StandIn, tabs: Tabs) -> None:
    tabs({**own(0), "shared": "user 1"}, {**own(0), "shared": "user 1"}, {**own(0), "shared": "user 2"})
    until(lambda: len(stand_in.streams) == 2, what="two connections")


@pytest.mark.parametrize("without", WITHOUT)
def test_a_browser_without(stand_in: StandIn, tabs: Tabs, without: str) -> None:
    opened = tabs(own(0), own(1), without=without)
    assert len(stand_in.streams) == 2
    stand_in.publish(["own-1"], "1")
    opened[1].wait_for_function("seen.length === 1")
    assert opened[0].evaluate("seen") == []


def test_a_tab_that_is_refused(stand_in: StandIn, tabs: Tabs) -> None:
    """It stops, and takes nobody with it; also when the one that leads is gone."""
    stand_in.refused = {"own-1"}
    opened = tabs(own(0), own(1), own(2))
    assert opened[1].evaluate("told.at(-1)") == {
        "state": "stopped",
        "reason": "channel own-1 is not allowed",
        "status": 403,
    }
    assert opened[1].evaluate("seen") == []
    stand_in.refused = {"own-2"}  # it was allowed until now
    stand_in.cut()
    opened[2].wait_for_function("stream.state === 'stopped'")
    opened[0].wait_for_function("stream.state === 'open'")
    stand_in.publish(["all"], "1")
    opened[0].wait_for_function("seen.length === 1")
    assert opened[0].evaluate("states.includes('stopped')") is False


def test_all_wait_and_come_back(stand_in: StandIn, tabs: Tabs) -> None:
    opened = tabs(own(0), own(1), own(2))
    stand_in.cut()
    for tab in opened:
        tab.wait_for_function("states.includes('waiting')")
    stand_in.publish(["all"], "1")
    for tab in opened:
        tab.wait_for_function("seen.length === 1")
        assert tab.evaluate("states.slice(-3)") == ["waiting", "connecting", "open"]

"""Servers, clients that come back to any of them, and a plain model of what each client must receive.

In addition to `hub_model`: members of rooms beside the events, kinds of channel with their own limits, rights
that expire, streams that are ended by an order or their age, transports without a socket, and applications
that leave events out. `stream_model` and `journal_model` say where the events are.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred

from cyclone_sse.brokers import Broker
from cyclone_sse.delivery.client import NOT_LIVE, Client
from cyclone_sse.delivery.events import EventId
from cyclone_sse.delivery.hub import Hub
from cyclone_sse.delivery.kinds import Kind, Kinds
from cyclone_sse.delivery.poll_client import PollClient
from tests.harness.eventstream import Parser
from tests.unit.delivery.clients import EPOCH, socket_client, turns
from tests.unit.delivery.moving_listeners import Entry, Listener, Restart
from tests.unit.fakes import FakeSocket, PushTransport, TurnClock

CHANNELS = ("a1", "a2", "b1", "b2", "c")
PATTERNS = ("a*", "*1", "*", "b*")
SETTLED = 60.0  # seconds after which no member is about to leave


class Server:
    """A server as the clients see it."""

    broker: Broker

    @property
    def hub(self) -> Hub:
        """Its hub."""
        return self.broker.hub

    @property
    def position(self) -> int:
        """The position after which events are due to a client that connects now."""
        raise NotImplementedError

    def read(self) -> bool:
        """Get new events; returns whether there may be more."""
        return False

    def ready(self, channels: list[str], last_event_id: str) -> Deferred[Any] | None:
        """What a client has to wait for."""
        return self.broker.ready(channels, last_event_id or None)

    def prepare(self, kinds: Kinds, clock: TurnClock) -> None:
        """Set what the options would set."""
        self.hub.kinds.replace(kinds)
        self.hub.lifecycle.wall = lambda: EPOCH + clock.seconds()


class ServersModel:
    """Servers, their clients, and everything that was published. seed: of all that happens."""

    may_lose = False  # events may be lost other than by the limits of the history
    may_have_gaps = False  # clients may receive gaps although nothing is lost

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        choose = self.random.choice
        self.clock = TurnClock()
        self.is_lossless = choose([True, False])
        limits: dict[str, Any] = {"history-size": 10_000, "history-ttl": 1e6}
        kinds = [Kind("a*", presence=True), Kind("b1", presence=True)]
        if not self.is_lossless:
            limits |= {"history-bytes": choose([500, 3000, 1 << 20])}
            kinds = [
                Kind("a1", presence=True, history_size=choose([0, 1, 3])),
                Kind("b*", presence=True, history_ttl=choose([0, 2, 10])),
                Kind("c", history_size=choose([1, 10]), history_ttl=choose([3, 300])),
            ]
        self.kinds = Kinds(kinds)
        self.settings = limits | {
            "ping-interval": choose([0, 3]),
            "stall-timeout": choose([0, 5]),
            "max-age": choose([0, 15]),
            "presence-grace": choose([0.5, 3.0]),
            "presence-max": choose([1, 1000]),
            "patterns": True,
        }
        self.names = CHANNELS + choose([(), PATTERNS])
        self.slice = choose([1, 2, 500])
        self.entries: dict[int, Entry] = {}
        self.noticed_late: set[int] = set()  # events whose loss is noticed when others have come
        self.listeners: list[Listener] = []
        self.positions: list[tuple[str, int]] = []
        self.servers: list[Any] = []

    def close(self) -> None:
        """Leave nothing behind."""

    @property
    def newest(self) -> int:
        """The number of the newest event."""
        return max(self.entries, default=0)

    # What happens.

    def publish(self) -> None:
        """Publish something."""
        raise NotImplementedError

    def actions(self) -> list[Callable[[], object]]:
        """What can happen, the usual more often."""
        often = [*[self.publish] * 5, *[self.turn] * 6, *[self.read] * 4]
        often += [self.reconnect] * 3
        seldom = [self.join, self.cut, self.add, self.note, self.wait, self.wait_briefly]
        rare = [self.remove, self.order] + ([] if self.is_lossless else [self.clear, self.reload])
        return [*often * 3, *[self.poll_again] * 6, *seldom * 3, *rare]

    def play(self, steps: int) -> None:
        """Let so many things happen, and then all clients receive the rest."""
        actions = self.actions()
        for _ in range(steps):
            self.random.choice(actions)()
            for listener in self.listeners:
                self._note_end(listener)
        self.settle()

    def settle(self) -> None:
        """Let all clients receive what is left, and all members be known."""
        for server in self.servers:
            server.hub.lifecycle._max_age = 0
        for seconds in (0.0, SETTLED):
            end = self.clock.seconds() + seconds
            while self._settle_some() or self.clock.seconds() < end:
                self.clock.advance(0.25)
        for listener in self.listeners:
            listener.receive(None, self.newest)

    def _settle_some(self) -> int:
        work = 0
        for server in self.servers:
            while server.read():
                pass
        for listener in self.listeners:
            listener.options["expires"] = None
            if listener.client is None and not listener.is_waiting and not listener.is_over:
                self._connect(listener, listener.last_id)
                work += 1
            if listener.socket is not None:
                listener.socket.read(None)
            work += self._note_end(listener)
        return work + turns(self.clock, 100_000) + self.poll_again()

    def turn(self) -> None:
        self.clock.turn()

    def wait(self) -> None:
        self.clock.advance(self.random.choice([1.5, 4, 11]))

    def wait_briefly(self) -> None:
        self.clock.advance(self.random.choice([0.1, 0.3]))

    def note(self) -> None:
        server = self.random.choice(self.servers)
        self.positions = [*self.positions[-9:], (server.hub.position(), server.position)]

    def order(self) -> None:
        self._control({"end": self.random.choice([{"channel": ["a1"]}, {"user": "ann"}])})

    def clear(self) -> None:
        self._control({"clear": {"channel": self.random.sample(CHANNELS, self.random.choice([1, 2]))}})

    def _control(self, order: dict[str, Any]) -> None:
        result = self.random.choice(self.servers).broker.control(order)
        if isinstance(result, Deferred):
            result.addErrback(lambda _: None)

    def reload(self) -> None:
        server, size = self.random.choice(self.servers), self.random.choice([0, 1, 2, 10, 10_000])
        server.hub._settings["history-size"] = size
        server.hub.publishing.tasks.put(server.hub.history.renew_limits())

    # Clients.

    def join(self) -> None:
        choose = self.random.choice
        if len(self.listeners) >= 10:
            return
        channels = self.random.sample(self.names, choose([1, 1, 2, 3]))
        last_event_id, start = choose([*self.positions, ("", 0), ("", 0), ("earliest", 0), ("x", 0)])
        options = {
            "client_id": choose([None, "me", "other"]),
            "user": choose([None, "ann", "bob"]),
            "info": choose([None, '{"n":1}', '{"n":2}']),
            "fields": choose([True, False]),
            "state": choose([True, False]) and "*" not in "".join(channels),
            "presence": choose([True, False]),
            "poll": choose([True, False, False, False]),
            "limit": choose([200, 2000, 1 << 20]),
            "room": choose([None, 0, 500]),
            "renders": choose([True, False, False]),
            "pushes": choose([True, False, False]),
            "expires": choose([None, None, 5, 12]),
        }
        listener = Listener(channels, dict.fromkeys(channels, start), self.entries, options)
        self.listeners.append(listener)
        self._connect(listener, last_event_id)

    def _connect(self, listener: Listener, last_event_id: str) -> None:
        server = listener.server = self.random.choice(self.servers)
        ready = server.ready(listener.channels, last_event_id)
        if ready is None:
            self._open(listener, last_event_id)
        else:
            listener.is_waiting = True
            ready.addCallback(lambda _: self._open(listener, last_event_id))

    def _open(self, listener: Listener, last_event_id: str) -> None:
        hub: Hub = listener.server.hub
        listener.parser, listener.parsed, listener.answer, listener.is_waiting = Parser(), 0, None, False
        listener.rooms = {}
        listener.asked, listener.position = last_event_id, last_event_id or hub.position()
        if last_event_id in ("", "earliest"):
            listener.starts = dict.fromkeys(listener.channels, listener.server.position)
            listener.gone = frozenset(self.noticed_late)
        eid = EventId.parse(last_event_id)
        # If its server loses ids, it cannot know what a client that was ahead of it has received.
        is_ahead = self.may_lose and eid is not None and eid.seq > hub.ids.last
        if last_event_id and (eid is None or eid.node != hub.ids.node or is_ahead):
            listener.received.append(Restart())
        client, opens = self._make_client(listener)
        listener.client = client
        hub.subscribe(client, list(listener.channels), last_event_id or None)
        opens()

    def _make_client(self, listener: Listener) -> tuple[Client, Callable[[], None]]:
        options = listener.options
        listener.socket = (PushTransport if options["pushes"] else FakeSocket)(options["room"])

        def answer(data: bytes) -> None:
            listener.answer = data

        if options["poll"]:
            made: Any = PollClient(lambda: None, answer, lambda: None, options["limit"] > 200)
        else:
            made = socket_client(listener.socket, limit=options["limit"])
            made.wants_presence = options["presence"]
        made.client_id, made.fields, made.wants_state = (
            options["client_id"],
            options["fields"],
            options["state"],
        )
        made.user, made.info = options["user"], options["info"]
        if options["expires"] is not None:
            made.expires = EPOCH + self.clock.seconds() + options["expires"]
        if listener.renders is not None:
            made.render, made.shares_frames = listener.renders, False
        return made, made.open

    def _disconnect(self, listener: Listener, until: int | None = None) -> None:
        listener.receive(until, self.newest)
        client, listener.client = listener.client, None
        client.lost()
        listener.server.hub.unsubscribe(client)
        if listener.options["state"] and not listener.asked:
            listener.position = ""  # its first id comes behind the states
        listener.is_over = listener.has_past

    def _note_end(self, listener: Listener) -> int:
        if listener.client is None or listener.options["poll"] or not listener.socket.closed:
            return 0
        self._disconnect(listener)
        return 1

    def _some(self, is_open: bool = True) -> Listener | None:
        found = [
            each
            for each in self.listeners
            if (each.client is not None) == is_open and not each.is_waiting and not each.is_over
        ]
        return self.random.choice(found) if found else None

    def cut(self) -> None:
        listener = self._some()
        if listener is not None:
            self._disconnect(listener, self.random.randint(listener.parsed, len(listener.sent)))

    def reconnect(self) -> None:
        listener = self._some(is_open=False)
        if listener is not None:
            self._connect(listener, listener.last_id)

    def poll_again(self) -> int:
        answered = [each for each in self.listeners if each.answer is not None and each.client is not None]
        for each in answered:
            self._disconnect(each)
            self._connect(each, each.last_id)
        return len(answered)

    def add(self) -> None:
        listener = self._some()
        if listener is not None:
            self._add_channel(listener)

    def _add_channel(self, listener: Listener) -> None:
        if listener.options["poll"] or listener.options["state"]:
            return
        new = [name for name in self.names if name not in listener.channels and name not in listener.left]
        server, client = listener.server, listener.client
        if new:
            name, (id, start) = self.random.choice(new), self.random.choice([*self.positions, ("", 0)])
            listener.channels.append(name)
            ahead = int(client.skip_until) >> 64 if client.skip_until != NOT_LIVE else 0
            listener.starts[name] = start if id else max([server.position, ahead, *self.noticed_late])
            listener.has_past = listener.has_past or bool(id)
            # Its server cannot send events of the channel that it has not read, if the client has others.
            listener.is_ahead = listener.is_ahead or bool(id and ahead > server.hub.ids.last >> 64)
            server.hub.subscribe(client, [name], id or None)

    def remove(self) -> None:
        listener = self._some()
        if listener is not None and not listener.options["poll"] and len(listener.channels) > 1:
            name = self.random.choice(listener.channels)
            listener.channels.remove(name)
            listener.left.add(name)
            listener.server.hub.unsubscribe(listener.client, [name])

    def read(self) -> None:
        listener = self._some()
        if listener is not None and listener.socket.room is not None:
            listener.socket.read(self.random.choice([1, 300, 2000, None]))

    # What each client must have received.

    def faults(self) -> Iterator[str]:
        """What a client received too often, in another order, without being due, or not at all."""
        may_have_gaps = self.may_lose or self.may_have_gaps or not self.is_lossless
        for number, listener in enumerate(self.listeners):
            found = [*listener.faults(may_have_gaps, self.noticed_late), *self._wrong_members(listener)]
            yield from (f"client {number}, {listener.channels}: {fault}" for fault in found)

    def _wrong_members(self, listener: Listener) -> Iterator[str]:
        if listener.options["poll"] or not listener.options["presence"] or listener.is_over:
            return
        for name in listener.channels:
            here = [each for each in self.listeners if name in each.channels and not each.is_over]
            # A poll that has moved to another server is a stream of both for a while.
            if "*" in name or not self.kinds.of(name).presence or any(each.options["poll"] for each in here):
                continue
            users = [each.options["user"] for each in here]
            members = {user for user in users if user is not None}
            most = self.settings["presence-max"]
            yield from listener.wrong_members(name, members, users.count(None), most)

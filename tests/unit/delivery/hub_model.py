"""A hub with all kinds of clients, and a plain model of what each must have received.

The clients combine what other tests look at one by one: channels, patterns, states, the names of channels,
long polls, excluded ids, tiny buffers, connections that break at any byte, channels that come and go. The
history is small, and forgets, is cleared, and has gaps.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from cyclone_sse.delivery.client import NOT_LIVE, Client
from cyclone_sse.delivery.events import GAP_TYPE, EventId
from cyclone_sse.delivery.pattern_index import PatternIndex
from cyclone_sse.delivery.poll_client import PollClient
from cyclone_sse.delivery.publication import publication
from cyclone_sse.errors import Ending
from tests.harness.eventstream import Parser
from tests.unit.delivery.clients import make_hub, socket_client, turns
from tests.unit.delivery.hub_listeners import Gap, Listener, Published
from tests.unit.fakes import FakeSocket, TurnClock

CHANNELS = ("a1", "a2", "b1", "b2", "c")
FILLERS = tuple(f"f{number}" for number in range(6))
PATTERNS = ("a*", "*1", "*", "b*")
OTHER_BYTES = b": presence\n\n"  # which the history does not repeat


class HubModel:
    """A hub, its clients, and everything that was published. seed: of all that happens."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        choose = self.random.choice
        self.clock = TurnClock()
        self.is_lossless = choose([True, False])
        limits: dict[str, Any] = {"history_size": 10_000, "history_ttl": 1e6}
        if not self.is_lossless:
            limits = {
                "history_size": choose([0, 1, 3, 10, 100]),
                "history_ttl": choose([0, 2, 10, 300]),
                "history_bytes": choose([500, 3000, 1 << 20]),
            }
        self.names = CHANNELS + choose([(), PATTERNS])
        patterns = PatternIndex() if len(self.names) > len(CHANNELS) else None
        self.hub = make_hub(
            self.clock, patterns=patterns, ping_interval=choose([0, 3]), stall_timeout=0, **limits
        )
        self.hub._fanout._slice = choose([1, 2, 500])
        self.hub.start()
        self.published: list[Published] = []
        self.listeners: list[Listener] = []
        self.positions = [(self.hub.position(), self.hub.ids.last)]

    # What happens.

    def play(self, steps: int) -> None:
        """Let so many things happen, and then all clients receive the rest."""
        often = (
            [self.publish] * 6
            + [self.turn] * 5
            + [self.read] * 4
            + [self.poll_again] * 2
            + [self.reconnect] * 2
        )
        seldom = [self.join, self.cut, self.add, self.note, self.wait, self.send_other_bytes]
        rare = [self.remove, self.lose, self.clear, self.reload]
        for _ in range(steps):
            self.random.choice([*often * 3, *seldom * 3, *rare])()
            for listener in self.listeners:  # too many bytes waited that the history does not repeat
                if listener.client is not None and listener.client.ending is Ending.SLOW:
                    self._disconnect(listener)
        for listener in self.listeners:
            self._connect_again(listener)
        work = 1
        while work:
            for listener in self.listeners:
                listener.socket.read(None)
            work = turns(self.clock, 10_000) + self.poll_again()
        for each in self.listeners:
            self._receive(each)

    def publish(self) -> None:
        choose = self.random.choice
        size = choose([1, 1, 1, 2, 7])
        channels = tuple(self.random.sample(CHANNELS + FILLERS if size == 7 else CHANNELS, size))
        ttl, excluded, keep = (
            choose([*[None] * 9, 0, 1, 5]),
            choose([None, None, None, "me"]),
            choose([0, 0, 1]),
        )
        batch = []
        for _ in range(choose([1, 1, 1, 2, 9])):
            event = Published(len(self.published) + 1, channels, excluded, ttl, bool(keep))
            self.published.append(event)
            batch.append(event)
        made = [
            publication(
                each.channels,
                f"{each.number} {'x' * choose([0, 10, 400])}",
                ttl=each.ttl,
                excluded=each.excluded,
                keep=each.keep,
            )
            for each in batch
        ]
        ids: Any = self.hub.publish_all(made)
        if isinstance(ids, list):
            self._note_ids(ids, batch)
        else:
            ids.addCallback(self._note_ids, batch)

    def _note_ids(self, ids: Iterable[str], batch: list[Published]) -> None:
        for id, event in zip(ids, batch, strict=True):
            eid = EventId.parse(id)
            assert eid is not None
            event.seq = eid.seq

    def join(self) -> None:
        choose = self.random.choice
        if len(self.listeners) >= 10:
            return
        channels = self.random.sample(self.names, choose([1, 1, 2, 3]))
        last_event_id, start = choose([*self.positions, ("", 0), ("", 0)])
        listener = Listener(
            channels,
            dict.fromkeys(channels, start if last_event_id else self.hub.ids.last),
            client_id=choose([None, "me", "other"]),
            fields=choose([True, False]),
            state=choose([True, False]) and "*" not in "".join(channels),
            poll=choose([True, False, False]),
            limit=choose([200, 2000, 1 << 20]),
            room=choose([None, 0, 500]),
        )
        self.listeners.append(listener)
        self._connect(listener, last_event_id)

    def _connect(self, listener: Listener, last_event_id: str) -> None:
        client: Client
        listener.parser, listener.parsed, listener.answer = Parser(), 0, None
        listener.socket = FakeSocket(listener.room)
        if listener.poll:

            def answer(data: bytes) -> None:
                listener.answer = data

            client = poll = PollClient(lambda: None, answer, lambda: None, listener.limit > 200)
            opens = poll.open
        else:
            client = stream = socket_client(listener.socket, limit=listener.limit)
            opens = stream.open
        client.client_id, client.fields, client.wants_state = (
            listener.client_id,
            listener.fields,
            listener.state,
        )
        listener.client = client
        listener.asked = last_event_id
        listener.position = last_event_id or self.hub.position()
        self.hub.subscribe(client, list(listener.channels), last_event_id or None)
        opens()

    def _receive(self, listener: Listener, until: int | None = None) -> None:
        """Parse what came; until: a byte at which the connection broke."""
        data = listener.answer or b"" if listener.poll else bytes(listener.socket.received)
        new = data[listener.parsed : until]
        listener.parsed += len(new)
        for event in listener.parser.feed(new):
            if event.type == GAP_TYPE:
                listener.received.append(
                    Gap(frozenset(json.loads(event.data)["channels"]), len(self.published))
                )
            else:
                listener.received.append(int(event.data.split()[0]))

    def _disconnect(self, listener: Listener, until: int | None = None) -> None:
        self._receive(listener, until)
        client, listener.client = listener.client, None
        client.lost()
        self.hub.unsubscribe(client)
        if listener.state and not listener.asked:
            listener.position = ""  # its first id comes behind the states
        listener.is_over = listener.has_past

    def _some(self, is_open: bool = True) -> Listener | None:
        found = [each for each in self.listeners if not each.is_over and (each.client is not None) == is_open]
        return self.random.choice(found) if found else None

    def cut(self) -> None:
        listener = self._some()
        if listener is not None:
            size = len(listener.answer or b"" if listener.poll else listener.socket.received)
            self._disconnect(listener, self.random.randint(listener.parsed, max(size, listener.parsed)))

    def reconnect(self) -> None:
        listener = self._some(is_open=False)
        if listener is not None:
            self._connect_again(listener)

    def _connect_again(self, listener: Listener) -> None:
        if listener.client is None and not listener.is_over:
            if not listener.last_id:
                listener.starts = dict.fromkeys(listener.channels, self.hub.ids.last)
            self._connect(listener, listener.last_id)

    def poll_again(self) -> int:
        answered = [each for each in self.listeners if each.answer is not None and each.client is not None]
        for each in answered:
            self._disconnect(each)
            self._connect_again(each)
        return len(answered)

    def add(self) -> None:
        listener = self._some()
        if listener is None or listener.poll or listener.state:
            return
        new = [name for name in self.names if name not in listener.channels and name not in listener.left]
        if new:
            name, (id, start) = self.random.choice(new), self.random.choice([*self.positions, ("", 0)])
            listener.channels.append(name)
            listener.starts[name] = start if id else self.hub.ids.last
            listener.has_past, listener.has_added = listener.has_past or bool(id), True
            self.hub.subscribe(listener.client, [name], id or None)

    def remove(self) -> None:
        listener = self._some()
        if listener is not None and not listener.poll and len(listener.channels) > 1:
            name = self.random.choice(listener.channels)
            listener.channels.remove(name)
            listener.left.add(name)
            self.hub.unsubscribe(listener.client, [name])

    def read(self) -> None:
        listener = self._some()
        if listener is not None and listener.socket.room is not None:
            listener.socket.read(self.random.choice([1, 300, 2000, None]))

    def send_other_bytes(self) -> None:
        listener = self._some()
        if listener is not None and not listener.poll:
            listener.client.send(OTHER_BYTES * self.random.choice([1, 15]))

    def note(self) -> None:
        self.positions = [*self.positions[-9:], (self.hub.position(), self.hub.ids.last)]

    def lose(self) -> None:
        if not self.is_lossless:
            self.hub.send_gap(self.random.sample(CHANNELS, 2))

    def clear(self) -> None:
        if not self.is_lossless:
            self.hub.publishing.clear(self.random.sample(CHANNELS + FILLERS, self.random.choice([1, 8])))

    def reload(self) -> None:
        if not self.is_lossless:
            settings: Any = self.hub._settings
            settings["history-size"] = self.random.choice([0, 1, 2, 10])
            self.hub.publishing.tasks.put(self.hub.history.renew_limits())

    def wait(self) -> None:
        self.clock.advance(self.random.choice([0.1, 1.5, 4, 11]))

    def turn(self) -> None:
        self.clock.turn()

    # What each client must have received.

    def faults(self) -> Iterator[str]:
        """What a client received too often, in another order, without being due, or not at all."""
        for number, listener in enumerate(self.listeners):
            found = (*self._unasked(listener), *self._repeated(listener))
            if not listener.is_over:
                found += (*self._missing(listener), *self._not_live(listener))
            yield from (f"client {number}, {listener.channels}: {fault}" for fault in found)

    def _unasked(self, listener: Listener) -> Iterator[str]:
        for item in listener.received:
            if isinstance(item, Gap):
                if self.is_lossless:
                    yield f"a gap of {set(item.channels)} without a loss"
                continue
            event = self.published[item - 1]
            if not listener.names_of(event):
                yield f"{item} is of other channels"
            if event.excluded is not None and event.excluded == listener.client_id and not listener.state:
                yield f"{item} is not for it"

    def _is_repeatable(self, listener: Listener, number: int) -> bool:
        event = self.published[number - 1]
        return (listener.state and event.keep) or (listener.has_past and len(listener.names_of(event)) > 1)

    def _repeated(self, listener: Listener) -> Iterator[str]:
        events = [item for item in listener.received if isinstance(item, int)]
        once = [item for item in events if not self._is_repeatable(listener, item)]
        if len(once) != len(set(once)):
            yield f"some came twice: {once}"
        for name in listener.channels if listener.has_past else [None]:
            mine = [self.published[item - 1] for item in once]
            seqs = [event.seq for event in mine if name is None or listener.names_of(event) == [name]]
            if any(earlier > later for earlier, later in pairwise(seqs)):
                yield f"not in order: {once}"

    def _missing(self, listener: Listener) -> Iterator[str]:
        places: dict[Any, int] = {}
        for number, item in enumerate(listener.received):
            places.setdefault(item, number)
        for name in listener.channels:
            due = [
                event for event in self.published if event.is_for(name) and event.seq > listener.starts[name]
            ]
            next_place = len(listener.received)
            for event in sorted(due, key=lambda event: event.seq, reverse=True):
                if event.number in places:
                    if not self._is_repeatable(listener, event.number):
                        next_place = places[event.number]
                elif event.ttl is None and event.excluded != (listener.client_id or ""):
                    # A poll may be sent the gap of a channel behind events that another channel has, too.
                    told = listener.received if listener.poll else listener.received[:next_place]
                    gaps = [item for item in told if isinstance(item, Gap)]
                    if not any(name in gap.channels and gap.last >= event.number for gap in gaps):
                        yield f"{event.number} of {name} is missing in {listener.received}"

    def _not_live(self, listener: Listener) -> Iterator[str]:
        if listener.client.skip_until == NOT_LIVE:
            yield "it is not live"
        for name in listener.channels if listener.state else ():
            state = self.hub.states.get(name)
            event = None if state is None else self.published[int(state.message.split()[0]) - 1]
            if event is None or event.excluded is not None:
                continue
            if event.number not in listener.received and event.seq > listener.starts[name]:
                yield f"it does not know the state {event.number} of {name}"

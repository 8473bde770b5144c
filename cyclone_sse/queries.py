"""Requests for what the server knows of channels: their states, their members, and their numbers of clients.

States and members need the rights of a subscription.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred

from cyclone_sse.access.grant import Grant
from cyclone_sse.broker_handler import BrokerHandler
from cyclone_sse.brokers.base import Broker
from cyclone_sse.delivery.publication import channel_names
from cyclone_sse.errors import Refusal
from cyclone_sse.http.connection import CLOSING
from cyclone_sse.slices import finish_in_turns

MAX_PREFIXES = 10  # each is compared with each channel
STATE_BYTES_AT_ONCE = 256 * 1024  # bytes of states that are written in one slice: about 3 ms


class ChannelsHandler(BrokerHandler):
    """Answers a GET for channels, to clients that may subscribe to them and to holders of the key."""

    def get_answer(self, channels: list[str]) -> Generator[None, None, str]:
        """The answer as JSON, made in slices. channels: the authorised ones. May raise Refusal."""
        raise NotImplementedError

    def get(self) -> Deferred[None] | None:
        """Check the client's right to the channels, and answer."""
        channels = channel_names(self.request.arguments)
        if not channels:
            raise Refusal(400, "name at least one channel: ?channel=...")
        self.rules.check_names(channels)
        return self.rules.when_keys_known(self.request, self._decide, channels)

    head = get

    def _decide(self, channels: list[str]) -> Deferred[None] | None:
        grant = None if self._has_key() else self.rules.subscriber(self.request, channels)
        if isinstance(grant, Deferred):
            return grant.addCallback(self._answer, channels)
        return self._answer(grant, channels)

    def _has_key(self) -> bool:
        secret = self.broker.secret_key
        if (secret or self.rules.know_publishers) and "Authorization" in self.request.headers:
            with suppress(Refusal):
                return self.rules.publisher(self.request, "", secret).may_publish_everywhere
        return False

    def _answer(self, grant: Grant | None, channels: list[str]) -> Deferred[None] | None:
        allowed = channels if grant is None else [name for name in channels if name in grant.subscribe]
        self.set_header("Cache-Control", "private, no-store")
        answer = finish_in_turns(self.get_answer(allowed), self.request.connection.server.answers)
        if isinstance(answer, Deferred):
            return answer.addCallback(self.finish)
        self.finish(answer)
        return None


class PresenceHandler(ChannelsHandler):
    """Members: ``GET /presence?channel=room-7``, on all servers, with info, streams and since."""

    def get_answer(self, channels: list[str]) -> Generator[None, None, str]:
        """The members of the one channel that was named."""
        if len(channels) != 1:
            raise Refusal(400, "name one channel: ?channel=...")
        hub = self.broker.hub
        if not hub.kinds.of(channels[0]).presence:
            raise Refusal(404, f"{channels[0]!r} has no presence: see --channels")
        return (yield from hub.presence.members(channels[0]))


class StateHandler(ChannelsHandler):
    """States: ``GET /state?channel=a&channel=b``, the last event with ``keep`` of each channel."""

    def get_answer(self, channels: list[str]) -> Generator[None, None, str]:
        """The states of these channels, with their ids, types and data."""
        # All at once: without this, a client that resumes from the newest id could miss an event of a channel
        # whose state was read before.
        states = {name: self.broker.hub.states.get(name) for name in channels}
        parts: list[str] = []
        written = 0  # bytes, in this slice
        for name, event in states.items():
            if event is None:
                continue
            state = {"id": str(event.id), "event": event.type, "data": event.message}
            parts.append(f"{json.dumps(name)}: {json.dumps(state)}")
            written += len(event.frame)
            if written > STATE_BYTES_AT_ONCE:
                written = 0
                yield
                if self.request.connection.state is CLOSING:
                    return ""  # Without this, the states would be written for clients that have left.
        return f"{{{', '.join(parts)}}}"


class StatsHandler(BrokerHandler):
    """Statistics: ``GET /stats``, the number of subscribers of each channel. Override ``get_stats``."""

    def get_stats(self) -> Any:
        """The answer, which is sent as JSON: all channels, or those that ``channel`` or ``prefix`` name."""
        names, prefixes = self._selection()
        rows = self.broker.stats()
        if not names and not prefixes:
            return rows
        return [row for row in rows if row[0] in names or (prefixes and row[0].startswith(prefixes))]

    def get(self) -> Deferred[None] | None:
        """Answer with the figures of this moment; those of very many channels are at most a second old."""
        self.set_header("Cache-Control", "no-store")
        if type(self).get_stats is not StatsHandler.get_stats or type(self.broker).stats is not Broker.stats:
            self.finish(json.dumps(self.get_stats()))
            return None
        names, prefixes = self._selection()
        table = self.broker.hub.stats_table
        stats = table.selection(names, prefixes) if names or prefixes else table.table()
        if isinstance(stats, Deferred):
            return stats.addCallback(self.finish)
        self.finish(stats)
        return None

    head = get

    def _selection(self) -> tuple[list[str], tuple[str, ...]]:
        prefixes = tuple(self.request.arguments.get("prefix", ()))
        if len(prefixes) > MAX_PREFIXES:
            raise Refusal(400, f"more than {MAX_PREFIXES} prefixes")
        return channel_names(self.request.arguments), prefixes

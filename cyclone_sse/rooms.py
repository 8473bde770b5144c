"""Requests for the members and states of channels, with the rights of a subscription."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import suppress

from twisted.internet.defer import Deferred

from cyclone_sse.access.grant import Grant
from cyclone_sse.broker_handler import BrokerHandler
from cyclone_sse.delivery.publication import channel_names
from cyclone_sse.errors import Refusal
from cyclone_sse.http.connection import CLOSING
from cyclone_sse.slices import finish_in_turns

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
        return self.rules.when_keys_known(self.request, lambda: self._decide(channels))

    head = get

    def _decide(self, channels: list[str]) -> Deferred[None] | None:
        grant = None if self._has_key() else self.rules.subscriber(self.request, channels)
        if isinstance(grant, Deferred):
            return grant.addCallback(self._answer, channels)
        return self._answer(grant, channels)

    def _has_key(self) -> bool:
        secret = self.broker.secret_key
        if (secret or self.rules.know_operators) and "Authorization" in self.request.headers:
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
        presence = self.broker.hub.presence
        if not presence.kinds.of(channels[0]).presence:
            raise Refusal(404, f"{channels[0]!r} has no presence: see --channels")
        return (yield from presence.members(channels[0]))


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

"""The states of channels that are kept beside a Redis stream, in step with the entries that are read.

Other programs add entries with ``keep``, but do not set the states; each server does, and the newest id
counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice

from cyclone_sse.brokers.link import NotAllowed
from cyclone_sse.brokers.redis_link import ResponseError
from cyclone_sse.brokers.redis_scripts import decode_state, encode_state
from cyclone_sse.brokers.redis_stream_link import STATES_IN_STEP, StreamLink
from cyclone_sse.delivery.publication import Publication


class StreamStates:
    """States that were read and are still to be written. on_failure: called with the error if that fails."""

    def __init__(self, on_failure: Callable[[Exception], object]) -> None:
        self._on_failure = on_failure
        self._new: dict[bytes, bytes] = {}  # states of the entries read last, by channel
        self._cleared: deque[tuple[bytes, Sequence[str]]] = deque()  # ids of orders, channels to forget

    def add(self, id: bytes, publication: Publication) -> None:
        """Note the state that the entry of this id makes."""
        value = encode_state(id, publication)
        self._new.update((name.encode(), value) for name in publication.channels)

    def clear(self, id: bytes, channels: Sequence[str]) -> None:
        """Note an order, the entry of this id, to forget these channels."""
        for name in channels:
            self._new.pop(name.encode("utf-8", "surrogatepass"), None)
        self._cleared.append((id, channels))

    async def read(self, link: StreamLink) -> list[tuple[str, bytes, Publication]] | None:
        """Read all states: channel, id and publication of each; None if they cannot be read.

        States that are not written yet are dropped: an order that will not be read may have cleared them.
        """
        self._new.clear()
        await self.write(link)
        states = []
        try:
            for channel, value in await link.states():
                with suppress(ValueError):  # another program may have written it
                    id, state = decode_state(channel, value)
                    states.append((channel.decode(), id, state))
        except (NotAllowed, ResponseError) as error:
            self._on_failure(error)
            return None
        return states

    async def write(self, link: StreamLink) -> None:
        """Write the noted states and orders to Redis.

        What is not written when the connection is lost is written on the next one, since the entries are not
        read again.
        """
        try:
            while self._cleared:
                await link.clear_states(*self._cleared[0])
                self._cleared.popleft()
            while self._new:
                part = dict(islice(self._new.items(), STATES_IN_STEP))
                await link.set_states(part)
                for channel, value in part.items():
                    if self._new.get(channel) is value:
                        del self._new[channel]
        except (NotAllowed, ResponseError) as error:
            self._cleared.clear()
            self._new.clear()
            self._on_failure(error)

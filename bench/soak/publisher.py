"""Publishers: each posts one message after another, so that the order of a channel's numbers is known."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

from bench.soak.ledger import Ledger
from bench.soak.web import Poster

RETRY = 0.2  # seconds until a publisher reconnects
BASE, BULK = "base", "bulk"
BULK_SIZE = 60_000  # bytes: some hundred of these overflow the buffers of a client that does not read
KEY = "key of the soak"


def own(number: int) -> str:
    """The name of this client's own channel."""
    return f"user-{number}"


async def post_small(port: int, ledger: Ledger, clients: int, rate: float) -> None:
    """Publish messages to all clients, to one client, and to both at once."""
    chance = random.Random(clients)

    def channels() -> list[str]:
        names = [[BASE], [own(chance.randrange(clients))], [BASE, own(chance.randrange(clients))]]
        return chance.choices(names, [3, 6, 1])[0]

    poster = Poster(port, KEY)
    try:
        async for _ in _ticks(rate):
            await _post(poster, ledger, channels())
    finally:
        poster.close()


async def post_large(port: int, ledger: Ledger, rate: float) -> None:
    """Publish messages that fill buffers."""
    poster = Poster(port, KEY)
    try:
        async for _ in _ticks(rate):
            await _post(poster, ledger, [BULK], BULK_SIZE)
    finally:
        poster.close()


async def _post(poster: Poster, ledger: Ledger, channels: list[str], size: int = 0) -> None:
    message = ledger.next_message(channels)
    try:
        await poster.publish(channels, message.ljust(size))
    except (OSError, asyncio.IncompleteReadError):
        # The server is restarting. Whether this message was published is unknown; the next is a new one.
        poster.close()
        await asyncio.sleep(RETRY)
    else:
        ledger.was_taken(message)


async def _ticks(rate: float) -> AsyncIterator[None]:
    due = time.monotonic()
    while True:
        yield
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))

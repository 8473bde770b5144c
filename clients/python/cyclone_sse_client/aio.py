"""``AsyncPublisher``: the methods of ``Publisher`` as coroutines, over httpx (the extra ``async``)."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from cyclone_sse_client.attempts import Attempts
from cyclone_sse_client.calls import Call, Calls, Dumps, Message, Published, Result, State
from cyclone_sse_client.connections import server_name, split_url
from cyclone_sse_client.errors import Unavailable
from cyclone_sse_client.publisher import PATIENCE, TIMEOUT, no_answer

# Without this limit, the calls of a few hundred tasks at once would take minutes and fail: httpx looks at every
# waiting call for each connection that becomes free, and the time for which a call waits counts as its timeout.
MOST_CONNECTIONS = 20

# The server has closed an idle connection: this is not a failure, and needs no pause.
_CLOSED_WHILE_IDLE = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


class AsyncPublisher:
    """Publishes to the server at ``url``; the parameters are those of ``Publisher``."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = TIMEOUT,
        patience: float = PATIENCE,
        dumps: Dumps = json.dumps,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.calls = Calls(key, dumps)
        self.patience = patience
        self.timeout = timeout
        self._where = split_url(url)
        self._server = server_name(url)
        https = self._where.scheme == "https"
        self._context = context or (ssl.create_default_context() if https else False)
        # Without one for each event loop, a publisher that outlives its loop would fail: async_to_sync and
        # asyncio.run make a loop for each call.
        self._of_loops: dict[asyncio.AbstractEventLoop, _OfLoop] = {}

    async def publish(
        self,
        channels: str | Iterable[str],
        message: Any,
        *,
        event: str | None = None,
        keep: bool = False,
        ttl: float | None = None,
        except_: str | None = None,
        retry: int | None = None,
        idempotency_key: str | None = None,
    ) -> Published:
        """Publish a message to one channel or several."""
        return await self.call(
            self.calls.publish(
                channels,
                message,
                event=event,
                keep=keep,
                ttl=ttl,
                except_=except_,
                retry=retry,
                idempotency_key=idempotency_key,
            )
        )

    async def batch(self, messages: Iterable[Message], *, idempotency_key: str | None = None) -> Published:
        """Publish several messages in one request: all of them in this order, or none."""
        return await self.call(self.calls.batch(messages, idempotency_key=idempotency_key))

    async def disconnect(self, *, user: object = None, channels: str | Iterable[str] | None = None) -> int:
        """End the streams of a user, or of channels; returns the number of streams on this server."""
        return await self.call(self.calls.disconnect(user=user, channels=channels))

    async def clear(self, channels: str | Iterable[str]) -> None:
        """Delete the state and the history of channels."""
        await self.call(self.calls.clear(channels))

    async def presence(self, channel: str) -> dict[str, Any]:
        """The members of a channel."""
        return await self.call(self.calls.presence(channel))

    async def state(self, channels: str | Iterable[str]) -> dict[str, State]:
        """The states of these channels, without channels that have none."""
        return await self.call(self.calls.state(channels))

    async def call(self, call: Call[Result]) -> Result:
        """Send a call that was made with ``calls``, repeat it if necessary, and return its result."""
        attempts = Attempts(self.patience)
        while True:
            try:
                return await self._attempt(call)
            except Unavailable as failure:
                failure.idempotency_key = call.headers.get("Idempotency-Key")
                await asyncio.sleep(attempts.pause(failure))

    async def close(self) -> None:
        """Close the connections; the next call opens one."""
        of_loop = self._of_loops.pop(asyncio.get_running_loop(), None)
        if of_loop is not None:
            await of_loop.end.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _attempt(self, call: Call[Result]) -> Result:
        try:
            try:
                answer = await self._request(call)
            except _CLOSED_WHILE_IDLE:
                answer = await self._request(call)
        except httpx.TransportError as error:
            raise no_answer(self._server, error, httpx.ConnectError) from error
        return call.result(answer.status_code, dict(answer.headers), answer.content)

    async def _request(self, call: Call[Result]) -> httpx.Response:
        headers = {name.encode(): value.encode("latin-1") for name, value in call.headers.items()}
        of_loop = await self._of_running_loop()
        async with of_loop.free:
            return await of_loop.client.request(call.method, call.path, content=call.body, headers=headers)

    async def _of_running_loop(self) -> _OfLoop:
        loop = asyncio.get_running_loop()
        found = self._of_loops.get(loop)
        if found is None:
            for closed in [each for each in list(self._of_loops) if each.is_closed()]:
                self._of_loops.pop(closed, None)
            client = self._make_client()
            found = self._of_loops[loop] = _OfLoop(client, _until_end(client))
            await anext(found.end)
        return found

    def _make_client(self) -> httpx.AsyncClient:
        unix = self._where.path if self._where.scheme == "unix" else None
        transport = httpx.AsyncHTTPTransport(uds=unix, verify=self._context)
        # Without server_name, httpx would send a password in the URL instead of the key.
        base = "http://localhost" if unix else self._server
        # Without trust_env=False, a proxy named in the environment would receive the key.
        return httpx.AsyncClient(base_url=base, transport=transport, timeout=self.timeout, trust_env=False)


@dataclass(frozen=True, slots=True)
class _OfLoop:
    """The connections of one event loop."""

    client: httpx.AsyncClient
    end: AsyncGenerator[None, None]
    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_CONNECTIONS))


async def _until_end(client: httpx.AsyncClient) -> AsyncGenerator[None, None]:
    """Close the client when the event loop ends, at which asyncio closes the generators that were started."""
    try:
        yield
    finally:
        await client.aclose()

"""Posts to ``--presence-url`` the users who have joined and left channels on this server.

For "last seen", and for push messages to users who are not present. Each change is posted at least once, in
order for each user of a channel: one request is under way at a time, and is repeated until it succeeds.
The number of waiting changes is limited; the oldest are dropped first.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyclone_sse.access.http_client import HttpClient, answer_in_time
from cyclone_sse.errors import error_text
from cyclone_sse.log_limit import LogLimit

PRESENCE_INTERVAL = 1.0  # seconds between two requests
MAX_PAUSE = 30.0  # seconds between two tries
MAX_CHANGES = 500  # changes in one request: at most 700 kB
MAX_WAITING_CHANGES = 20_000  # changes


class PresenceUrl:
    """The application that is notified of members.

    key: returns the publishing key, by which the application recognises this server. client: sends the
    requests.
    """

    log = Logger()

    def __init__(
        self, url: str, key: Callable[[], str | None], reactor: IReactorTime, client: HttpClient | None = None
    ) -> None:
        self._key = key
        self._reactor = reactor
        self._client = client or HttpClient(url, 1, reactor)
        self._waiting: deque[tuple[bool, str, str, str | None]] = deque()  # joined, channel, user, info
        self._in_request = 0  # the number of the first ones, which are in the request under way
        self._request: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self._failures = 0  # since the last success
        self._stopping = False
        self._dropped = 0
        self._log_limit = LogLimit(reactor.seconds)

    def __len__(self) -> int:
        """The number of changes that wait."""
        return len(self._waiting)

    def add(self, channel: str, joined: Mapping[str, str | None], left: list[str]) -> None:
        """Post that users have joined the channel, with their info, or have left it."""
        for user in left:
            self._waiting.append((False, channel, user, None))
        for user, info in joined.items():
            self._waiting.append((True, channel, user, info))
        excess = len(self._waiting) - MAX_WAITING_CHANGES
        for _ in range(excess):
            self._drop_oldest()
        if self._waiting and self._timer is None and self._request is None and not self._stopping:
            self._timer = self._reactor.callLater(PRESENCE_INTERVAL, self._post)

    async def stop(self) -> None:
        """Post the waiting changes, without repeating failed requests."""
        self._stopping = True
        self._clear_timer()
        if self._request is not None:
            await self._finished()
        while self._waiting and not self._failures:
            self._post()
            await self._finished()

    def abort(self) -> None:
        """Post nothing more."""
        self._stopping = True
        self._clear_timer()
        if self._request is not None:
            self._request.cancel()

    def _clear_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _finished(self) -> Deferred[None]:
        """A Deferred that fires when the request under way has succeeded or failed."""
        done: Deferred[None] = Deferred()
        assert self._request is not None
        self._request.addBoth(lambda _: done.callback(None))
        return done

    def _drop_oldest(self) -> None:
        self._waiting.popleft()
        self._in_request = max(0, self._in_request - 1)
        self._dropped += 1

    def _post(self) -> None:
        self._timer = None
        body = self._batch()
        request = self._request = Deferred.fromCoroutine(self._send(body))
        request.addCallbacks(self._sent, self._failed)

    def _batch(self) -> bytes:
        """The body of the next request: the oldest changes, at most one for each user of a channel.

        Without this, a user who leaves and joins within a second would be in both lists, without an order.
        """
        lists: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
        seen: set[tuple[str, str]] = set()
        for has_joined, channel, user, info in self._waiting:
            if (channel, user) in seen or len(seen) == MAX_CHANGES:
                break
            seen.add((channel, user))
            change: dict[str, Any] = {"channel": channel, "user": user}
            if has_joined:
                change["info"] = None if info is None else json.loads(info)
            lists[has_joined].append(change)
        self._in_request = len(seen)
        return json.dumps({"joined": lists[True], "left": lists[False]}, ensure_ascii=False).encode(
            "utf-8", "surrogatepass"
        )

    async def _send(self, body: bytes) -> None:
        fields = [("Content-Type", "application/json"), ("User-Agent", "cyclone-sse")]
        key = self._key()
        if key:
            fields.append(("Authorization", "Bearer " + key.encode().decode("latin-1")))
        answer = await answer_in_time(self._client.post(body, fields), self._reactor)
        if not 200 <= answer.status < 300:
            raise ValueError(f"answered {answer.status}")

    def _sent(self, _: object) -> None:
        self._request = None
        for _number in range(self._in_request):
            self._waiting.popleft()
        self._failures = 0
        if self._dropped:
            self.log.error("--presence-url was away too long: {n} changes are lost", n=self._dropped)
            self._dropped = 0
        if self._waiting and not self._stopping:
            self._timer = self._reactor.callLater(PRESENCE_INTERVAL, self._post)

    def _failed(self, failure: Failure) -> None:
        self._request = None
        self._failures += 1
        if failure.check(CancelledError):
            return  # by `abort`
        self._log(error_text(failure.value))
        if not self._stopping:
            pause = min(MAX_PAUSE, PRESENCE_INTERVAL * 2 ** min(self._failures - 1, 10))
            self._timer = self._reactor.callLater(pause, self._post)

    def _log(self, problem: str) -> None:
        """Log a new problem at once, and a repeated one at most once a minute."""
        if self._log_limit.acquire(problem):
            self.log.error("the application at --presence-url {problem}: trying again", problem=problem)

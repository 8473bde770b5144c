"""A JWKS at a URL, fetched at the start, every ten minutes, and when a token names an unknown key.

The last good set is kept while the URL does not respond or returns a malformed answer. Tokens with invented
names of keys cause at most one request a minute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyclone_sse.access.http_client import HttpClient, NoAnswer, answer_in_time
from cyclone_sse.access.keys import SigningKey, jwks_keys
from cyclone_sse.errors import error_text
from cyclone_sse.reactors import reactor_or_global
from cyclone_sse.slices import Slices, release

REFRESH = 600.0  # seconds between two fetches
FETCH_RETRY = 10.0  # seconds until the next try while there is no key at all
UNKNOWN_KEY = 60.0  # seconds between two fetches because of unknown keys
VERIFIED_AT_ONCE = 20  # clients whose tokens are checked in one turn, 0.2 ms each


class KeyUrl:
    """The keys at a URL. keys: the last good ones, empty until some have come."""

    log = Logger()

    def __init__(
        self, url: str, reactor: IReactorTime | None = None, client: HttpClient | None = None
    ) -> None:
        reactor = reactor_or_global(reactor)
        self.keys: Sequence[SigningKey] = ()
        self._url = url
        self._reactor = reactor
        self._client = client or HttpClient(url, 1, reactor)
        self._waiting: list[Deferred[None]] = []
        self._slices = Slices(reactor)
        self._request: Deferred[None] | None = None
        self._last_refresh = -math.inf  # when an unknown key last caused a fetch
        self._timer: IDelayedCall | None = None
        self._runs = False
        self._problem = ""  # what the log said last

    def start(self) -> None:
        """Fetch the keys now and every ten minutes."""
        self._runs = True
        self._fetch()

    def reload(self) -> None:
        """Fetch the keys now as well, if this was started."""
        if self._runs and self._request is None:
            self._fetch()

    def stop(self) -> None:
        """Stop fetching."""
        self._runs = False
        self._clear_timer()
        if self._request is not None:
            self._request.cancel()

    def refresh(self) -> Deferred[None] | None:
        """Fetch the keys because one is missing. Fires after the attempt; None if it is too early."""
        if self._request is None:
            now = self._reactor.seconds()
            if now - self._last_refresh < (UNKNOWN_KEY if self.keys else FETCH_RETRY):
                return None
            self._last_refresh = now
            self._fetch()
            if self._request is None:
                return None  # the answer has come at once
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def _clear_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _fetch(self) -> None:
        self._clear_timer()
        request = self._request = Deferred.fromCoroutine(self._read())
        request.addErrback(self._failed)
        request.addBoth(self._finish)

    def _finish(self, _: object) -> None:
        self._request = None
        if self._runs:
            self._timer = self._reactor.callLater(REFRESH if self.keys else FETCH_RETRY, self._fetch)
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._slices.put(release(waiting, None, VERIFIED_AT_ONCE))

    async def _read(self) -> None:
        request = self._client.get("", [("Accept", "application/json"), ("User-Agent", "cyclone-sse")])
        try:
            answer = await answer_in_time(request, self._reactor)
        except NoAnswer as error:
            raise ValueError(f"the URL {error}") from None
        if answer.status != 200:
            raise ValueError(f"the answer is {answer.status}")
        self.keys = jwks_keys(answer.body)
        if self._problem:
            self._problem = ""
            self.log.info("the keys at --jwt-keys={url} are back", url=self._url)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):  # by `stop`
            self._log_problem(error_text(failure.value))

    def _log_problem(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            kept = "the last ones stay in use" if self.keys else "no token is accepted"
            self.log.error(
                "the keys at --jwt-keys={url} cannot be read ({problem}): {kept}",
                url=self._url,
                problem=problem,
                kept=kept,
            )

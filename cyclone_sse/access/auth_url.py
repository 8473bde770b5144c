"""Ask the application who may hear what: one GET to ``--auth-url`` for each subscription.

A site whose clients all come back at once shall not drown its own application: only so many questions are
under way, on connections that are kept, and the others wait their turn. Whatever the application does other
than decide (silence, an error, a redirect to a login page, an answer that makes no sense) lets nobody in and
tells nobody "no": the client is told to come again.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, Protocol
from urllib.parse import urlencode

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, TimeoutError
from twisted.logger import Logger

from cyclone_sse.access.grant import Grant
from cyclone_sse.access.http_client import Answer, HttpClient
from cyclone_sse.errors import Refusal
from cyclone_sse.values import read_json

PATIENCE = 5.0  # seconds for an answer
TURN_PATIENCE = 10.0  # seconds to wait for one's turn
LOG_INTERVAL = 60.0  # seconds between two lines about the same trouble
_PASSED_ON = ("Cookie", "Authorization", "Origin")


class Caller(Protocol):
    """What is to be known of a request."""

    headers: Mapping[str, str]
    remote_ip: str


class Nonsense(Exception):
    """The application has not decided; the text says what it did, for the log."""


class AuthUrl:
    """The application behind ``--auth-url``.

    concurrency: questions under way at most. clock: the wall clock, seconds since the epoch. fetcher: asks
    over the network.
    """

    log = Logger()

    def __init__(
        self,
        url: str,
        concurrency: int,
        fetcher: HttpClient | None = None,
        clock: Callable[[], float] = time.time,
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self._url = url
        self._turns = DeferredSemaphore(concurrency)
        self._fetcher = fetcher or HttpClient(concurrency, reactor)
        self._clock = clock
        self._reactor = reactor
        self._logged = -math.inf

    def ask(self, caller: Caller, channels: Sequence[str]) -> Deferred[Grant]:
        """What the caller may hear of these channels. Fails with Refusal; may be cancelled."""
        return Deferred.fromCoroutine(self._ask(caller, channels))

    async def _ask(self, caller: Caller, channels: Sequence[str]) -> Grant:
        try:
            await self._turns.acquire().addTimeout(TURN_PATIENCE, self._reactor)
        except TimeoutError:
            self._refuse("has too many questions waiting")
        try:
            request = Deferred.fromCoroutine(self._request(caller, channels))
            return await request.addTimeout(PATIENCE, self._reactor)
        except TimeoutError:
            self._refuse(f"has not answered in {PATIENCE:g} seconds")
        except (Refusal, CancelledError):
            raise
        except Nonsense as error:
            self._refuse(str(error))
        except Exception as error:
            # Whatever can go wrong between two computers; Twisted has no common name for it.
            self._refuse(f"cannot be asked: {_reason(error)}")
        finally:
            self._turns.release()

    async def _request(self, caller: Caller, channels: Sequence[str]) -> Grant:
        separator = "&" if "?" in self._url else "?"
        url = self._url + separator + urlencode([("channels", channel) for channel in channels])
        fields = [("Accept", "application/json"), ("User-Agent", "cyclone-sse")]
        fields += [(name, caller.headers[name]) for name in _PASSED_ON if name in caller.headers]
        fields.append(("X-Forwarded-For", caller.remote_ip))
        return self._decide(await self._fetcher.get(url, fields), channels)

    def _decide(self, answer: Answer, channels: Sequence[str]) -> Grant:
        if answer.status == 401:
            challenge = {"WWW-Authenticate": answer.challenge or "Bearer"}
            raise Refusal(401, "the application wants you to log in", challenge)
        if answer.status == 403:
            raise Refusal(403, f"the application does not allow {', '.join(channels)}")
        if not 200 <= answer.status < 300:
            raise Nonsense(f"answered {answer.status}")
        if not _is_json(answer):
            return Grant(subscribe=tuple(channels))
        try:
            return grant_of(read_json(answer.body), channels, self._clock())
        except ValueError as error:
            raise Nonsense(f"answered what makes no sense: {error}") from None

    def _refuse(self, what: str) -> NoReturn:
        now = self._reactor.seconds()
        if now - self._logged >= LOG_INTERVAL:
            self._logged = now
            self.log.error("the application at --auth-url {what}: subscriptions are refused", what=what)
        # Each client gets a time of its own, so that they do not all come again at once.
        after = str(random.randint(5, 15))
        raise Refusal(503, "the application cannot be asked now", {"Retry-After": after})


def grant_of(answer: object, channels: Sequence[str], now: float) -> Grant:
    """The grant in an answer: ``{"channels": [..], "user": "42", "expires": 3600}``, each of which may be
    missing. Raises ValueError."""
    if not isinstance(answer, dict):
        raise ValueError("this is no JSON object")
    names = answer.get("channels", list(channels))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("channels is not a list of names")
    user, expires = answer.get("user"), answer.get("expires")
    if user is not None and type(user) not in (str, int):
        raise ValueError("user is not text")
    if expires is not None:
        if type(expires) not in (int, float) or not 0 < expires < math.inf:
            raise ValueError("expires is not a number of seconds")
        expires = now + expires
    return Grant(None if user is None else str(user), tuple(names), (), expires)


def _is_json(answer: Answer) -> bool:
    """Whether the body decides something. PHP says text/html unless it is told otherwise; what looks like
    JSON must not be overlooked, since it takes away."""
    return "json" in answer.kind.lower() or answer.body.lstrip()[:1] in (b"{", b"[")


def _reason(error: Exception) -> str:
    """What went wrong; the reasons of Twisted's ResponseFailed are in a list."""
    reasons = getattr(error, "reasons", None)
    return reasons[0].getErrorMessage() if reasons else str(error) or type(error).__name__

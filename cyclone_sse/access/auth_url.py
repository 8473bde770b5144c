"""Ask the application to which channels a client may subscribe: one GET to ``--auth-url`` for each
subscription.

When all clients reconnect at once, they must not overload the application: a limited number of requests is
under way, on persistent connections, and the other clients wait. If the application does not decide (no
answer, an error, a redirect to a login page, an HTML page), no channel is opened and no client is refused
permanently: the client is answered with 503, and tries again.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import urlencode

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from cyclone_sse.access.answers import NoDecision, decide
from cyclone_sse.access.credentials import Caller
from cyclone_sse.access.grant import Grant
from cyclone_sse.access.http_client import HttpClient, NoAnswer, answer_in_time
from cyclone_sse.counters import Histogram
from cyclone_sse.errors import Refusal
from cyclone_sse.log_limit import LogLimit
from cyclone_sse.reactors import reactor_or_global

TURN_PATIENCE = 10.0  # seconds that a question may wait until fewer requests are under way
_PASSED_ON = ("Cookie", "Authorization", "Origin", "User-Agent")


@dataclass(slots=True)
class AuthFigures:
    """The requests so far.

    answers: by HTTP status as text, ``none`` where there was no answer, ``left`` where the client has left.
    """

    under_way: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    seconds: Histogram = field(default_factory=Histogram)


class AuthUrl:
    """The application behind ``--auth-url``.

    concurrency: requests under way at most. host: the name in Host, if not the URL's own. clock: the wall
    clock, seconds since the epoch. client: sends the requests.
    """

    log = Logger()

    def __init__(
        self,
        url: str,
        concurrency: int,
        *,
        host: str | None = None,
        client: HttpClient | None = None,
        clock: Callable[[], float] = time.time,
        reactor: IReactorTime | None = None,
    ) -> None:
        reactor = reactor_or_global(reactor)
        self.figures = AuthFigures()
        self._host = host
        self._turns = DeferredSemaphore(concurrency)
        self._client = client or HttpClient(url, concurrency, reactor)
        self._clock = clock
        self._reactor = reactor
        self._log_limit = LogLimit(reactor.seconds)

    def ask(self, caller: Caller, channels: Sequence[str]) -> Deferred[Grant]:
        """The grant of this client for these channels. Fails with Refusal; may be cancelled."""
        return Deferred.fromCoroutine(self._ask(caller, channels))

    async def _ask(self, caller: Caller, channels: Sequence[str]) -> Grant:
        try:
            await self._turns.acquire().addTimeout(TURN_PATIENCE, self._reactor)
        except TimeoutError:
            self._refuse("has too many requests waiting (see --auth-concurrency)")
        began = self._reactor.seconds()
        self.figures.under_way += 1
        status = "none"
        try:
            request = self._client.get(_query(channels), self._fields(caller))
            answer = await answer_in_time(request, self._reactor)
            status = str(answer.status)
            return decide(answer, channels, self._clock())
        except CancelledError:
            # Without this, clients that leave would look like an application that does not answer.
            status = "left"
            raise
        except (NoAnswer, NoDecision) as error:
            self._refuse(str(error))
        finally:
            self._turns.release()
            self.figures.under_way -= 1
            self.figures.answers[status] += 1
            self.figures.seconds.observe(self._reactor.seconds() - began)

    def _fields(self, caller: Caller) -> list[tuple[str, str]]:
        """The headers of the request to the application."""
        headers = caller.headers
        fields = [("Accept", "application/json")]
        fields += [(name, headers[name]) for name in _PASSED_ON if name in headers]
        if "User-Agent" not in headers:
            fields.append(("User-Agent", "cyclone-sse"))
        if not caller.remote_ip.startswith("unix:"):  # without this, applications would fail to read it
            fields.append(("X-Forwarded-For", caller.remote_ip))
        fields.append(("X-Forwarded-Host", caller.public_host))
        fields.append(("X-Forwarded-Proto", caller.public_scheme))
        if self._host:
            fields.append(("Host", self._host))
        return fields

    def _refuse(self, problem: str) -> NoReturn:
        self._log(problem)
        # Without a random time, all clients would try again at once.
        after = str(random.randint(5, 15))
        raise Refusal(503, "the application has not decided: try again later", {"Retry-After": after})

    def _log(self, problem: str) -> None:
        """Log a new problem at once, and a repeated one at most once a minute."""
        if self._log_limit.acquire(problem):
            self.log.error(
                "the application at --auth-url {problem}: subscriptions are refused", problem=problem
            )


def _query(channels: Sequence[str]) -> str:
    return urlencode([("channels", channel) for channel in channels])

"""One GET on a connection that is kept for the next: what ``ask`` knows of HTTP.

Twisted's Agent does the protocol. It is given connections without its lines in the log, and no answer may
grow beyond what can make sense.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IResponse
from zope.interface import implementer

MAX_ANSWER = 65536  # bytes
_KEPT_CONNECTION = 30  # seconds an idle connection is kept


class TooLong(Exception):
    """The answer was cut off at ``MAX_ANSWER``."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. challenge: WWW-Authenticate, as it came."""

    status: int
    kind: str
    challenge: str | None
    body: bytes


class HttpClient:
    """Fetches from one server, over at most so many kept connections. Follows no redirect."""

    def __init__(self, kept: int, reactor: Any) -> None:
        pool = HTTPConnectionPool(reactor)
        pool.maxPersistentPerHost = kept
        pool.cachedConnectionTimeout = _KEPT_CONNECTION
        self._agent = Agent.usingEndpointFactory(reactor, _Endpoints(reactor), pool)

    async def get(self, url: str, fields: list[tuple[str, str]]) -> Answer:
        """Fetch this. fields: the headers. Fails with whatever can go wrong on the way; may be cancelled."""
        headers = Headers()
        for name, value in fields:
            headers.addRawHeader(name.encode(), value.encode("latin-1"))
        response: IResponse = await self._agent.request(b"GET", url.encode(), headers)
        body = await _read(response)
        kinds, challenges = map(response.headers.getRawHeaders, ("Content-Type", "WWW-Authenticate"))
        return Answer(response.code, kinds[0] if kinds else "", challenges[0] if challenges else None, body)


def _read(response: IResponse) -> Deferred[bytes]:
    body = _Body()
    response.deliverBody(body)
    return body.complete


class _Body(Protocol):
    """Collects the body of an answer, as far as it is of a sane size."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.complete: Deferred[bytes] = Deferred(lambda _: self._stop())

    def _stop(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Take a part of it."""
        self._data += data
        if len(self._data) > MAX_ANSWER:
            self._stop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is complete, or never will be."""
        if self.complete.called:
            return  # it was given up
        if len(self._data) > MAX_ANSWER:
            self.complete.errback(TooLong())
        elif reason.check(ResponseDone, PotentialDataLoss):  # the second: HTTP/1.0 without a length
            self.complete.callback(bytes(self._data))
        else:
            self.complete.errback(reason)


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """Where the application is, in plain or by TLS with its certificate checked."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._policy = BrowserLikePolicyForHTTPS()

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Called by the Agent for a new connection."""
        endpoint: Any = HostnameEndpoint(self._reactor, uri.host, uri.port)
        if uri.scheme == b"https":
            endpoint = wrapClientTLS(self._policy.creatorForNetloc(uri.host, uri.port), endpoint)
        return _QuietEndpoint(endpoint)


@implementer(IStreamClientEndpoint)
class _QuietEndpoint:
    """An endpoint without Twisted's two lines in the log for each connection."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect."""
        protocolFactory.noisy = False  # type: ignore[attr-defined]
        return self._endpoint.connect(protocolFactory)

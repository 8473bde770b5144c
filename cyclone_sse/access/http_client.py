"""Requests to a server of the operator, on persistent connections.

Twisted's Agent speaks the protocol, on connections that log nothing and limit the size of a whole answer:
without this limit, an application that never stops sending headers would fill the memory.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from cyclone_sse.access.answers import HttpAnswer
from cyclone_sse.errors import error_text
from cyclone_sse.values import unix_url
from cyclone_sse.verified_tls import wrap_tls

ANSWER_TIMEOUT = 5.0  # seconds for an answer
MAX_ANSWER = 65536  # bytes: status line, headers, body and all that comes before them
MAX_INTERIM = 10  # 1xx answers before the final one; Twisted logs a line for each
MAX_REASON = 200  # characters of an error: Twisted's may have a whole line of the answer
_IDLE_SECONDS = 30  # for which an idle connection is kept
_INTERIM = re.compile(rb"HTTP/1\.[01] 1")

# Why the connection closes whose protocol is being notified. Twisted does not pass it to the body.
_why_it_closes: ContextVar[Failure | None] = ContextVar("why_it_closes", default=None)


class AnswerTooLong(Exception):
    """The answer was cut off at ``MAX_ANSWER``."""

    def __str__(self) -> str:
        return f"its answer is longer than {MAX_ANSWER} bytes"


class NoAnswer(Exception):
    """The server has not answered. The text is for the log, after the server's name: it has the reason."""


async def answer_in_time(request: Coroutine[Any, Any, HttpAnswer], reactor: IReactorTime) -> HttpAnswer:
    """The answer to a request of ``HttpClient``. Raises NoAnswer if there is none in ANSWER_TIMEOUT seconds.

    May be cancelled.
    """
    try:
        return await Deferred.fromCoroutine(request).addTimeout(ANSWER_TIMEOUT, reactor)
    except TimeoutError:
        raise NoAnswer(f"has not answered in {ANSWER_TIMEOUT:g} seconds") from None
    except CancelledError:
        raise
    except Exception as error:
        # Any error of the network or of TLS; Twisted's have no common base class.
        raise NoAnswer(f"cannot be reached: {error_text(error)[:MAX_REASON]}") from None


class HttpClient:
    """Sends requests to one URL over persistent connections. Does not follow redirects.

    url: http, https, or ``unix:/path/of.sock:/path``. kept: idle connections at most.
    """

    def __init__(self, url: str, kept: int, reactor: IReactorTime) -> None:
        pool = HTTPConnectionPool(reactor)
        pool.maxPersistentPerHost = kept
        pool.cachedConnectionTimeout = _IDLE_SECONDS
        socket, path = unix_url(url) or (None, None)
        self._url = url if path is None else f"http://localhost{path}"
        self._agent = Agent.usingEndpointFactory(reactor, _Endpoints(reactor, socket), pool)

    async def get(self, query: str, fields: list[tuple[str, str]]) -> HttpAnswer:
        """Fetch the URL with this query added to its own. fields: the headers.

        Fails with any error of the network or of TLS; may be cancelled.
        """
        separator = "&" if "?" in self._url else "?"
        return await self._request(b"GET", self._url + (separator + query if query else ""), fields)

    async def post(self, body: bytes, fields: list[tuple[str, str]]) -> HttpAnswer:
        """Send this body to the URL; otherwise like ``get``."""
        return await self._request(b"POST", self._url, fields, body)

    async def _request(
        self, method: bytes, url: str, fields: list[tuple[str, str]], body: bytes | None = None
    ) -> HttpAnswer:
        headers = Headers()
        for name, value in fields:
            headers.addRawHeader(name.encode(), value.encode("latin-1", "replace"))
        producer = None if body is None else _BodyProducer(body)
        try:
            response: IResponse = await self._agent.request(method, url.encode(), headers, producer)
            content = await _read(response)
        except (RequestTransmissionFailed, ResponseFailed) as error:
            # Without these two, a request that is cancelled, or takes too long, would not fail as such.
            raise error.reasons[0].value from None
        if not 200 <= response.code < 600:
            # Twisted takes any number. Without this, each would become a label of the metrics.
            raise ValueError("its answer has no valid status")
        found = map(response.headers.getRawHeaders, (b"WWW-Authenticate", b"Location"))
        # Without "replace", a header in Latin-1 would hide the answer.
        challenge, location = (values[0].decode(errors="replace") if values else None for values in found)
        return HttpAnswer(response.code, content, challenge, location)


@implementer(IBodyProducer)
class _BodyProducer:
    """The body of a request, sent in one piece."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        pass


def _read(response: IResponse) -> Deferred[bytes]:
    body = _Body()
    response.deliverBody(body)
    return body.complete


class _Body(Protocol):
    """Collects the body of an answer."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.complete: Deferred[bytes] = Deferred(lambda _: self._stop())

    def _stop(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self._data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.complete.called:
            return  # it was cancelled
        if reason.check(PotentialDataLoss):
            # The answer has no length, and ends with its connection. Without the reason of that end, a body
            # that was cut off would count as complete, and an empty one would allow everything.
            reason = _why_it_closes.get() or reason
        if reason.check(ResponseDone, ConnectionDone):
            self.complete.callback(bytes(self._data))
        else:
            self.complete.errback(reason)


class BoundedProtocol(ProtocolWrapper):
    """Closes the connection when more than ``MAX_ANSWER`` bytes have come since the last request."""

    _received = 0
    _interim = 0

    def abortConnection(self) -> None:
        """Close the connection at once. The Agent also calls this when a request is cancelled."""
        transport: Any = self.transport
        transport.abortConnection()

    def write(self, data: bytes) -> None:
        self._received = self._interim = 0
        super().write(data)

    def writeSequence(self, data: Any) -> None:
        self._received = self._interim = 0
        super().writeSequence(data)

    def dataReceived(self, data: bytes) -> None:
        self._received += len(data)
        self._interim += len(_INTERIM.findall(data))
        if not self._is_too_long():
            super().dataReceived(data)
        elif self.transport is not None:
            self.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        why = Failure(AnswerTooLong()) if self._is_too_long() else reason
        known = _why_it_closes.set(why)
        try:
            super().connectionLost(why)
        finally:
            _why_it_closes.reset(known)

    def _is_too_long(self) -> bool:
        return self._received > MAX_ANSWER or self._interim > MAX_INTERIM


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """The endpoint of the server: plain TCP, TLS with a verified certificate, or a UNIX socket."""

    def __init__(self, reactor: IReactorTime, socket: str | None) -> None:
        self._reactor = reactor
        self._socket = socket
        self._policy = BrowserLikePolicyForHTTPS()

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        if self._socket is not None:
            return _BoundedEndpoint(UNIXClientEndpoint(self._reactor, self._socket))
        endpoint: IStreamClientEndpoint = HostnameEndpoint(self._reactor, uri.host, uri.port)
        if uri.scheme == b"https":
            creator = self._policy.creatorForNetloc(uri.host, uri.port)
            endpoint = wrap_tls(endpoint, uri.host.decode("ascii"), creator)
        return _BoundedEndpoint(endpoint)


@implementer(IStreamClientEndpoint)
class _BoundedEndpoint:
    """An endpoint with ``BoundedProtocol`` below the Agent's, and without Twisted's two lines in the log
    for each connection."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        protocolFactory.noisy = False  # type: ignore[attr-defined]
        factory = WrappingFactory(protocolFactory)
        factory.noisy = False
        factory.protocol = BoundedProtocol
        connected: Deferred[Any] = self._endpoint.connect(factory)
        return _cancellable(connected.addCallback(lambda wrapper: wrapper.wrappedProtocol))


def _cancellable(work: Deferred[Any]) -> Deferred[Any]:
    """The result of this work, or CancelledError if it is cancelled.

    Twisted's endpoints fail in their own way then: while a host is being looked up, as if there were no such
    host.
    """
    cancelled = False

    def cancel(_: object) -> None:
        nonlocal cancelled
        cancelled = True
        work.cancel()

    result: Deferred[Any] = Deferred(cancel)
    work.addBoth(lambda found: None if cancelled else result.callback(found))
    return result

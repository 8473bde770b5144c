"""What the brokers need of a connection to their server, and what can go wrong on one.

The connections themselves are in ``redis_*link`` and ``amqp_publisher``, ``amqp_subscriber``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, FirstError, TimeoutError
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import ITCPTransport

from cyclone_sse.delivery.publication import Publication

BROKER_AWAY = "the broker is away"


class NotAllowed(Exception):
    """The server does not allow what was asked for; asking again would not help."""


class NotPublished(Exception):
    """A message was not taken, and for certain none of it was published."""


class WrongServer(Exception):
    """The server answers, but is not the one to talk to: a replica that once was the master, say."""


class Link(Protocol):
    """A connection, as the brokers build it from their library's protocol.

    ended: fires with the reason when the connection is lost. lost: that reason. blocked: why the server takes
    no messages at present.
    """

    transport: ITCPTransport
    ended: Deferred[BaseException]
    lost: BaseException | None
    blocked: str | None

    def log_in(self) -> Deferred[Any]:
        """Log in, and make sure that the other side answers. Fails with what it says."""

    def publish(self, publications: Sequence[Publication]) -> Awaitable[Sequence[Any]]:
        """Publish messages. Done when the server has taken them; gives their ids as far as it has some.

        Fails with Refusal where the publisher is at fault, with NotPublished where nothing was published.
        """

    def publish_order(self, order: bytes) -> Deferred[Any]:
        """Publish an order to all servers."""

    def publish_heartbeat(self, token: str) -> Deferred[Any]:
        """Publish a message that comes back, as messages do, on the connection that receives."""

    def abort(self, error: Exception) -> None:
        """End the connection at once, for this reason."""

    def log_out(self) -> Deferred[Any] | None:
        """End the connection in an orderly way."""


class SubscribingLink(Link, Protocol):
    """A connection that subscribes; what is requested is carried out in that order."""

    def subscribe(self, channel: str) -> Deferred[Any]:
        """Request all messages of a channel. Fires when that is confirmed; fails with NotAllowed, or with
        another error after which it may be requested again."""

    def unsubscribe(self, channel: str) -> Deferred[Any]:
        """Request no more messages of the channel."""


def text_of(error: BaseException | None) -> str:
    """What an error says, in one line for the log."""
    if isinstance(error, FirstError):
        error = error.subFailure.value
    if isinstance(error, CancelledError | ConnectingCancelledError):
        return "no answer in time"
    if isinstance(error, TimeoutError) and len(error.args) > 1:
        return "no answer in time"  # of `addTimeout`, which would name the Deferred
    return str(error).rstrip(".") or type(error).__name__

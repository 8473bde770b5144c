"""The interface of a connection between a broker and its server, and the errors of such connections.

The connections themselves are in ``redis_*link`` and ``amqp_publisher``, ``amqp_subscriber``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import ITCPTransport

from cyclone_sse.delivery.publication import Publication
from cyclone_sse.errors import error_text

BROKER_AWAY = "the broker is away"


class NotAllowed(Exception):
    """The server does not allow the request; the same request would be refused again."""


class NotPublished(Exception):
    """A message was not accepted, and certainly not published."""


class WrongServer(Exception):
    """The server answers, but is the wrong one, such as a replica that used to be the master."""


class Link(Protocol):
    """A connection of a broker, built on the protocol of a library.

    ended: fires with the reason when the connection is lost. lost: that reason. blocked: the reason why the
    server accepts no messages at present.
    """

    transport: ITCPTransport
    ended: Deferred[BaseException]
    lost: BaseException | None
    blocked: str | None

    def log_in(self) -> Deferred[Any]:
        """Log in, and make sure that the server answers. Fails with the server's reason."""

    def publish(self, publications: Sequence[Publication]) -> Awaitable[Sequence[Any]]:
        """Publish messages. Fires when the server has accepted them, with their ids if the server assigns
        ids.

        Fails with Refusal for a mistake of the publisher, and with NotPublished if nothing was published.
        """

    def publish_order(self, order: bytes) -> Deferred[Any]:
        """Publish an order to all servers."""

    def publish_heartbeat(self, token: str) -> Deferred[Any]:
        """Publish a message that arrives, like others, on the connection that receives."""

    def abort(self, error: Exception) -> None:
        """End the connection at once, for this reason."""

    def log_out(self) -> Deferred[Any] | None:
        """End the connection in an orderly way."""


class SubscribingLink(Link, Protocol):
    """A connection that subscribes; requests are carried out in order."""

    def subscribe(self, channel: str) -> Deferred[Any]:
        """Request all messages of a channel. Fires when the server has confirmed. Fails with NotAllowed, or
        with another error, after which the request may be repeated.
        """

    def unsubscribe(self, channel: str) -> Deferred[Any]:
        """Cancel the subscription to a channel."""


def text_of(error: BaseException | None) -> str:
    """The text of an error, as one line for the log."""
    if isinstance(error, CancelledError | ConnectingCancelledError):
        return "no answer in time"
    if isinstance(error, TimeoutError) and len(error.args) > 1:
        return "no answer in time"  # of `addTimeout`, which would name the Deferred
    return error_text(error)

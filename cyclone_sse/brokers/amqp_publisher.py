"""A connection to AMQP that publishes, and on which the server confirms each message.

Heartbeats, and the exchange for orders, have an AMQP channel of their own: if the server refuses them, it
closes the channel, and must not end the messages of publishers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.python.failure import Failure
from txamqp.client import Closed
from txamqp.content import Content

from cyclone_sse.brokers.amqp_protocol import (
    HEARTBEAT_TYPE,
    AmqpError,
    AmqpFactory,
    AmqpProtocol,
    as_text,
    encode_key,
    encode_short,
)
from cyclone_sse.brokers.amqp_tables import encode_table
from cyclone_sse.brokers.link import NotAllowed, NotPublished
from cyclone_sse.delivery.publication import Publication
from cyclone_sse.errors import Refusal
from cyclone_sse.slices import MANY, Slices, finish_in_turns

SENT_AT_ONCE = 100  # messages that are sent in one slice: about 5 ms
PROPERTIES_MAX = 1500  # bytes that a message's properties have, other than names: they must fit one frame
BLOCKED_WAIT = 1.0  # seconds to wait for confirmations after the server has stopped accepting messages


class _Unconfirmed:
    """The messages of one AMQP channel that are not confirmed yet; their tags count from 1.

    last: the tag of the last message.
    """

    def __init__(self) -> None:
        self.last = 0
        self._waiting: dict[int, Deferred[None]] = {}
        self._followers: deque[tuple[int, Deferred[None]]] = deque()  # what waits for all up to a tag

    def add(self) -> Deferred[None]:
        """Expect one more confirmation."""
        self.last += 1
        waiting = self._waiting[self.last] = Deferred()
        return waiting

    def confirm_all(self) -> Deferred[None]:
        """Expect the confirmations, or failures, of all messages up to now."""
        waiting: Deferred[None] = Deferred()
        self._followers.append((self.last, waiting))
        self._release()
        return waiting

    def _release(self) -> None:
        while self._followers and self._followers[0][0] < next(iter(self._waiting), self.last + 1):
            self._followers.popleft()[1].callback(None)

    def confirm(self, tag: int, multiple: bool, error: Exception | None) -> None:
        """Note a confirmation; with `multiple` all tags up to this one are confirmed."""
        tags = list(takewhile(lambda each: each <= tag, self._waiting)) if multiple else [tag]
        for each in tags:
            waiting = self._waiting.pop(each, None)
            if waiting is None or waiting.called:
                continue
            if error is None:
                waiting.callback(None)
            else:
                waiting.errback(error)
        self._release()


class AmqpPublisherProtocol(AmqpProtocol):
    """A connection that publishes, on which the server confirms each message."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._slices = Slices(self.factory.reactor)
        self._unconfirmed = {number: _Unconfirmed() for number in (self.factory.channel, self._second_number)}
        self._own: Any = None  # the AMQP channel for heartbeats and the exchange of orders

    async def _set_up(self) -> None:
        await self._ch.confirm_select()
        await self._open_own()

    async def _open_own(self) -> None:
        own = await self._open_second()
        await own.confirm_select()
        self._unconfirmed[own.id] = _Unconfirmed()
        self._own = own

    async def _open_own_again(self) -> None:
        with suppress(Closed):  # then all of it is opened again with the next connection
            await self._open_own()

    def _second_refused(self, why: str) -> None:
        unconfirmed = self._unconfirmed[self._own.id]
        unconfirmed.confirm(unconfirmed.last, True, NotAllowed(why))
        Deferred.fromCoroutine(self._open_own_again())

    def publish(self, publications: Sequence[Publication]) -> Deferred[Any]:
        """Send a message for each publication. Fires when the server has accepted all of them, without ids.

        A message for several channels is one, with the others in its header ``CC``, by which RabbitMQ routes
        it to each queue once. Very many are sent in slices.
        """
        return Deferred.fromCoroutine(self._publish_all(publications))

    async def _publish_all(self, publications: Sequence[Publication]) -> Sequence[None]:
        failures: list[Failure] = []
        try:
            sending = finish_in_turns(self._publish_in_slices(publications, failures), self._slices)
            sent = await sending if isinstance(sending, Deferred) else sending
        except AmqpError as error:
            raise Refusal(400, str(error)) from None
        await DeferredList(sent)
        if failures:
            failures[-1].raiseException()  # the last: that the publisher has given up, if it has
        return [None] * len(publications)

    def _publish_in_slices(
        self, publications: Sequence[Publication], failures: list[Failure]
    ) -> Generator[None, None, list[Deferred[None]]]:
        """Send the messages. Returns what fires when each is accepted, or has failed. Raises AmqpError."""
        # Before the first is sent. Without this, a part of a request with a mistake would be published.
        messages: list[tuple[Publication, list[list[bytes]]]] = []
        for number, each in enumerate(publications, 1):
            encode_short(each.type or "", "the event's type")
            messages.append((each, list(_keys(each, self.MAX_LENGTH - PROPERTIES_MAX))))
            if not number % MANY or len(each.channels) > MANY:
                yield
        sent: list[Deferred[None]] = []
        for each, lots in messages:
            for keys in lots:
                if self.blocked:
                    failures.append(Failure(AmqpError(self._blocked_reason)))
                    return sent
                # At once: without this, failures after the publisher has given up would be unhandled.
                sent.append(self._publish_one(each, keys).addErrback(failures.append))
                if not len(sent) % SENT_AT_ONCE or len(keys) > MANY:
                    yield
        return sent

    def _publish_one(self, publication: Publication, keys: Sequence[bytes]) -> Deferred[None]:
        properties: dict[str, Any] = {}
        if publication.type is not None:
            properties["type"] = publication.type.encode()
        if publication.idempotency_key:
            properties["message-id"] = publication.idempotency_key.encode()
        headers: dict[str, Any] = {}
        if len(keys) > 1:
            headers["CC"] = keys[1:]
        if publication.ttl is not None:
            headers["ttl"] = f"{publication.ttl:.6f}"
        if publication.excluded is not None:
            headers["except"] = publication.excluded
        if publication.keep:
            headers["keep"] = True
        if headers:
            properties["headers"] = encode_table(headers)
        return self._publish(self._ch, self.factory.exchange, keys[0], publication.data, properties)

    def publish_order(self, order: bytes) -> Deferred[Any]:
        """Send an order to every server that shares the exchange."""
        return Deferred.fromCoroutine(self._publish_order(order))

    async def _publish_order(self, order: bytes) -> None:
        try:
            await self._declare_control(self._own)
            # Without this, it could overtake them, since they are on another channel.
            await self._unconfirmed[self._ch.id].confirm_all()
            if self.blocked:
                raise NotPublished(self._blocked_reason)
            await self._publish(self._own, self.factory.control, b"", order, {})
        except NotAllowed as error:
            raise NotPublished(str(error)) from None
        except Closed as closed:
            if self._is_refusal(closed):
                raise NotPublished(as_text(closed.args[0].reply_text)) from None
            raise self._reason(closed) from None

    def publish_heartbeat(self, token: str) -> Deferred[Any]:
        """Send a heartbeat through the exchange like a message; if it reaches no queue, the server returns
        it.
        """
        properties = {"type": HEARTBEAT_TYPE.encode()}
        key = self.factory.heartbeat_key
        return self._publish(
            self._own, self.factory.exchange, key, token.encode(), properties, mandatory=True
        )

    def _publish(
        self,
        ch: Any,
        exchange: bytes,
        key: bytes,
        message: bytes,
        properties: dict[str, Any],
        *,
        mandatory: bool = False,
    ) -> Deferred[None]:
        if self.closed or ch.closed:
            return fail(self._reason())
        confirmed = self._unconfirmed[ch.id].add()
        content = Content(message, properties=properties)
        ch.basic_publish(exchange=exchange, routing_key=key, content=content, mandatory=mandatory)
        return confirmed

    def publish_confirmed(self, channel: int, tag: int, multiple: bool, error: str | None) -> None:
        """Note a confirmation."""
        self._unconfirmed[channel].confirm(tag, multiple, None if error is None else AmqpError(error))

    def message_returned(self, message: Any) -> None:
        """Report a heartbeat that reached no queue: the exchange, the binding or the queue was deleted."""
        self.factory.unroutable((message.content.body or b"").decode("utf-8", "replace"))

    def publishing_blocked(self, reason: str) -> None:
        """Stop publishing: the server is short of memory or disk, and reads the rest afterwards."""
        super().publishing_blocked(reason)
        before = {channel: unconfirmed.last for channel, unconfirmed in self._unconfirmed.items()}
        self.factory.reactor.callLater(BLOCKED_WAIT, self._fail_unconfirmed, before)

    def _fail_unconfirmed(self, tags: Mapping[int, int]) -> None:
        """Fail the messages up to these tags, by AMQP channel."""
        if self.blocked:
            for channel, tag in tags.items():
                self.publish_confirmed(channel, tag, True, self._blocked_reason)

    @property
    def _blocked_reason(self) -> str:
        return f"the server accepts no messages: {self.blocked}"

    def connectionLost(self, reason: Failure) -> None:
        """Fail the unconfirmed messages: it is unknown whether the server has accepted them."""
        super().connectionLost(reason)
        for unconfirmed in self._unconfirmed.values():
            unconfirmed.confirm(unconfirmed.last, True, AmqpError(str(self.lost)))


def _keys(publication: Publication, names_max: int) -> Iterator[list[bytes]]:
    """The routing keys of a publication, in lots that fit into one message. Raises AmqpError.

    names_max: bytes of names in one message's headers.
    """
    lot: list[bytes] = []
    size = 0
    for channel in publication.channels:
        key = encode_key(channel)
        size += len(key) + 5
        if lot and size > names_max:
            yield lot
            lot, size = [], len(key) + 5
        lot.append(key)
    yield lot


class AmqpPublisherFactory(AmqpFactory):
    """Makes connections that publish."""

    protocol = AmqpPublisherProtocol

"""What a connection to AMQP is for: one that receives, one that publishes, and their factories.

Independent of brokers and clients: a message goes to the function given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, DeferredList, fail, gatherResults, succeed
from twisted.python.failure import Failure
from txamqp.client import Closed
from txamqp.content import Content

from cyclone_sse.brokers.amqp_protocol import (
    ACCESS_REFUSED,
    HEARTBEAT_TYPE,
    AmqpError,
    AmqpFactory,
    AmqpMessage,
    AmqpProtocol,
    as_text,
    encode_key,
)
from cyclone_sse.brokers.amqp_tables import encode_table
from cyclone_sse.brokers.link import NotAllowed
from cyclone_sse.delivery.publication import Publication
from cyclone_sse.errors import Refusal

BINDINGS = 100  # that are under way together
NAMES_MAX = 100_000  # bytes of names in one message's headers, which must fit a frame
BLOCKED_WAIT = 1.0  # seconds for what was sent just before the server took no more to be confirmed


class _Binding(NamedTuple):
    """A change of what our queue gets. bind: make the binding, or remove it."""

    key: bytes
    bind: bool
    done: Deferred[None]


class AmqpSubscriberProtocol(AmqpProtocol):
    """A connection that receives, by one queue that is ours alone and ends with the connection.

    Each of our channels is a binding of it, so that a message comes once, however many it matches. The
    bindings are made on a channel of their own: the server closes it when it refuses one, and must not
    end the consumer with it. A fanout exchange ignores bindings: every message comes anyway.

    has_heartbeat: heartbeats come in.
    """

    has_heartbeat = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: deque[_Binding] = deque()
        self._busy = False
        self._bindings: Any = None  # the AMQP channel for them
        self._bindings_number = self.factory.channel + (-1 if self.factory.channel > 1 else 1)
        self._queue = b""

    async def _set_up(self) -> None:
        declared = await self._ch.queue_declare(exclusive=True, auto_delete=True)
        self._queue = declared.queue.encode()
        await self._ch.basic_consume(queue=self._queue, no_ack=True)
        await self._open_bindings()
        if self.factory.exchange_type == b"fanout":
            await self._bind(self.factory.exchange, b"")
            self.has_heartbeat = True
        else:
            self.has_heartbeat = await self._try_to_bind(
                self.factory.exchange, self.factory.heartbeat_key, "heartbeats"
            )
        await self._try_to_bind(self.factory.control, b"", "orders")

    async def _bind(self, exchange: bytes, key: bytes) -> None:
        await self._bindings.queue_bind(queue=self._queue, exchange=exchange, routing_key=key)

    async def _try_to_bind(self, exchange: bytes, key: bytes, what: str) -> bool:
        """Bind our queue for something of our own; a server that does not allow it serves all else."""
        try:
            if exchange == self.factory.control:
                await self._declare_control(self._bindings)
            await self._bind(exchange, key)
        except Closed as closed:
            if not self._is_refusal(closed):
                raise
            self.log.error("RabbitMQ allows no {what}: {why}", what=what, why=closed.args[0].reply_text)
            await self._open_bindings()
            return False
        return True

    async def _open_bindings(self) -> None:
        self.channels.pop(self._bindings_number, None)  # txAMQP keeps one that was closed
        self._bindings = await self.channel(self._bindings_number)
        await self._bindings.channel_open()

    def channel_failed(self, channel: Any, reason: Failure) -> None:
        """A refusal of a binding concerns that one alone."""
        if channel.id != self._bindings_number or not self._is_refusal(channel.reason):
            super().channel_failed(channel, reason)

    def _is_refusal(self, closed: BaseException | Any) -> bool:
        """Whether the server refused permission; other reasons are an error or a lost connection."""
        said = closed.args[0] if isinstance(closed, Closed) and closed.args else closed
        return not self.closed and getattr(said, "reply_code", None) == ACCESS_REFUSED

    def subscribe(self, channel: str) -> Deferred[Any]:
        """Bind our queue to the exchange with this key. Fires when the server has done so."""
        return self._in_turn(channel, bind=True)

    def unsubscribe(self, channel: str) -> Deferred[Any]:
        """Remove the binding."""
        return self._in_turn(channel, bind=False)

    def _in_turn(self, channel: str, bind: bool) -> Deferred[None]:
        """Do it after all that was requested before."""
        try:
            key = encode_key(channel)
        except AmqpError as error:
            return fail(NotAllowed(str(error)))
        if self.factory.exchange_type == b"fanout":
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._waiting.append(_Binding(key, bind, done))
        if not self._busy:
            Deferred.fromCoroutine(self._work()).addErrback(self._work_failed)
        return done

    async def _work(self) -> None:
        self._busy = True
        try:
            while self._waiting:
                await self._change(
                    [self._waiting.popleft() for _ in range(min(BINDINGS, len(self._waiting)))]
                )
        finally:
            # Without this, no binding would ever be made again after an exception.
            self._busy = False

    def _work_failed(self, failure: Failure) -> None:
        self.log.failure("could not change bindings", failure)
        self.abort(AmqpError(str(failure.value)))

    async def _change(self, lot: Sequence[_Binding]) -> None:
        answers = await DeferredList([self._send(each) for each in lot], consumeErrors=True)
        for n, (binding, (good, answer)) in enumerate(zip(lot, answers, strict=True)):
            if good:
                binding.done.callback(None)
                continue
            refused = self._is_refusal(answer.value)
            if not refused:  # it is the end of the connection, which txAMQP reports later
                self.lost = self.lost or self._reason(answer.value)
            binding.done.errback(self._explain(answer.value))
            if refused:
                # What follows was not looked at: it is sent again on a new channel.
                self._waiting.extendleft(reversed(lot[n + 1 :]))
                with suppress(Closed):  # then the rest fails with the connection
                    await self._open_bindings()
                return

    def _send(self, binding: _Binding) -> Deferred[Any]:
        methods = self._bindings
        if not binding.bind and not hasattr(methods, "queue_unbind"):
            return succeed(None)  # AMQP 0-8, in a file of the user's; it ends with the connection
        command = methods.queue_bind if binding.bind else methods.queue_unbind
        d: Deferred[Any] = command(queue=self._queue, exchange=self.factory.exchange, routing_key=binding.key)
        return d

    def _explain(self, error: BaseException) -> BaseException:
        if self._is_refusal(error):
            return NotAllowed(as_text(error.args[0].reply_text))
        return self._reason(error)

    def message_received(self, message: Any) -> None:
        """Hand a message on."""
        properties = message.content.properties
        kind, id = properties.get("type"), properties.get("message-id")
        headers = properties.get("headers")
        try:
            # txAMQP 0.8.2 makes an empty body text, and a name bytes where it is not UTF-8
            self.factory.receive(
                AmqpMessage(
                    as_text(message.exchange),
                    as_text(message.routing_key),
                    message.content.body or b"",
                    kind if isinstance(kind, str) else None,
                    id if isinstance(id, str) else None,
                    headers if isinstance(headers, dict) else {},
                )
            )
        except Exception:
            # Left alone, it would end the connection.
            self.log.failure("could not deliver a message")


class AmqpPublisherProtocol(AmqpProtocol):
    """A connection that publishes, on which the server confirms each message."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._published = 0
        self._unconfirmed: dict[int, Deferred[None]] = {}  # by delivery tag

    async def _set_up(self) -> None:
        await self._ch.confirm_select()

    def publish(self, publications: Sequence[Publication]) -> Deferred[Any]:
        """Send a message for each. Fires when the server has taken them all; it gives no ids.

        A message for several channels is one, with the others in its header ``CC``, by which RabbitMQ routes
        it to each queue once.
        """
        try:
            messages = [(each, list(_keys(each))) for each in publications]
        except AmqpError as error:
            return fail(Refusal(400, str(error)))
        confirmed = [self._publish_one(each, keys) for each, lots in messages for keys in lots]
        return gatherResults(confirmed, consumeErrors=True).addCallback(lambda _: [None] * len(publications))

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
        return self._publish(self.factory.exchange, keys[0], publication.data, properties)

    def publish_order(self, order: bytes) -> Deferred[Any]:
        """Send an order to every server that shares the exchange."""
        return Deferred.fromCoroutine(self._publish_order(order))

    async def _publish_order(self, order: bytes) -> None:
        await self._declare_control(self._ch)
        await self._publish(self.factory.control, b"", order, {})

    def publish_heartbeat(self, token: str) -> Deferred[Any]:
        """Send a message by the way that messages take; if no queue gets it, it comes back here."""
        properties = {"type": HEARTBEAT_TYPE.encode()}
        key = self.factory.heartbeat_key
        d = self._publish(self.factory.exchange, key, token.encode(), properties, mandatory=True)
        return d.addErrback(self._heartbeat_failed)

    def _heartbeat_failed(self, failure: Failure) -> Failure:
        if isinstance(self.lost, AmqpError) and self.lost.code == ACCESS_REFUSED:
            return Failure(NotAllowed(str(self.lost)))
        return failure

    def _publish(
        self, exchange: bytes, key: bytes, message: bytes, properties: dict[str, Any], mandatory: bool = False
    ) -> Deferred[None]:
        if self.closed or self._ch.closed:
            return fail(self._reason())
        self._published += 1
        confirmed: Deferred[None] = Deferred()
        self._unconfirmed[self._published] = confirmed
        content = Content(message, properties=properties)
        self._ch.basic_publish(exchange=exchange, routing_key=key, content=content, mandatory=mandatory)
        return confirmed

    def publish_confirmed(self, tag: int, multiple: bool, error: str | None) -> None:
        """Tags count up from 1, and `multiple` means all up to this one."""
        tags = [each for each in self._unconfirmed if each <= tag] if multiple else [tag]
        for each in tags:
            waiting = self._unconfirmed.pop(each, None)
            if waiting is None or waiting.called:
                continue
            if error is None:
                waiting.callback(None)
            else:
                waiting.errback(AmqpError(error))

    def message_returned(self, message: Any) -> None:
        """A heartbeat is for no queue: the exchange, the binding or the queue is gone."""
        self.factory.unroutable((message.content.body or b"").decode("utf-8", "replace"))

    def publishing_blocked(self, reason: str) -> None:
        """The server is short of memory or disk. What it has not read is published when that is over."""
        super().publishing_blocked(reason)
        self.factory.reactor.callLater(BLOCKED_WAIT, self._fail_unconfirmed, self._published)

    def _fail_unconfirmed(self, tag: int) -> None:
        if self.blocked:
            self.publish_confirmed(tag, True, f"the server takes no messages: {self.blocked}")

    def connectionLost(self, reason: Failure) -> None:
        """It is unknown whether what is unconfirmed was taken."""
        super().connectionLost(reason)
        self.publish_confirmed(self._published, True, str(self.lost))


def _keys(publication: Publication) -> Iterator[list[bytes]]:
    """The routing keys of a publication, in lots that fit into one message. Raises AmqpError."""
    lot: list[bytes] = []
    size = 0
    for channel in publication.channels:
        key = encode_key(channel)
        size += len(key) + 5
        if lot and size > NAMES_MAX:
            yield lot
            lot, size = [], len(key) + 5
        lot.append(key)
    yield lot


class AmqpSubscriberFactory(AmqpFactory):
    """Makes connections that receive."""

    protocol = AmqpSubscriberProtocol


class AmqpPublisherFactory(AmqpFactory):
    """Makes connections that publish."""

    protocol = AmqpPublisherProtocol

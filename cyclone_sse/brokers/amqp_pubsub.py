"""What a connection to AMQP is for: one that receives, one that publishes, and their factories.

Knows nothing of brokers or clients: a message goes to the function given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, DeferredList, fail, gatherResults, succeed
from twisted.python.failure import Failure
from txamqp.client import Closed
from txamqp.content import Content

from cyclone_sse.brokers.amqp_protocol import AmqpError, AmqpFactory, AmqpProtocol, as_text, encode_key
from cyclone_sse.brokers.link import NotAllowed
from cyclone_sse.delivery.publication import Publication
from cyclone_sse.errors import Refusal

ACCESS_REFUSED = 403  # AMQP 0-9-1, 1.2
LOT = 100  # bindings that are under way together


class _Binding(NamedTuple):
    """A change of what our queue gets. bind: make it, or take it back."""

    key: bytes
    bind: bool
    done: Deferred[None]


class AmqpSubscriberProtocol(AmqpProtocol):
    """A connection that receives, by one queue that is ours alone and gone with the connection.

    Each of our channels is a binding of it, so that a message comes once, however many it matches. The
    bindings are made on a channel of their own: the server closes it when it refuses one, and must not
    thereby end the consumer. A fanout exchange knows no bindings: all of it comes anyway.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: deque[_Binding] = deque()
        self._busy = False
        self._bindings: Any = None  # the AMQP channel for them
        self._bindings_number = self.factory.channel + (-1 if self.factory.channel > 1 else 1)
        self._queue = b""

    async def _ready(self) -> None:
        declared = await self._ch.queue_declare(exclusive=True, auto_delete=True)
        self._queue = declared.queue.encode()
        await self._ch.basic_consume(queue=self._queue, no_ack=True)
        await self._open_bindings()
        if self.factory.exchange_type == b"fanout":
            await self._bindings.queue_bind(
                queue=self._queue, exchange=self.factory.exchange, routing_key=b""
            )
        try:
            await self._declare_control(self._bindings)
            await self._bindings.queue_bind(queue=self._queue, exchange=self.factory.control, routing_key=b"")
        except Closed as closed:
            if not self._is_refusal(closed):
                raise
            self.log.error("RabbitMQ lets no orders through: {reason}", reason=closed.args[0].reply_text)
            await self._open_bindings()

    async def _open_bindings(self) -> None:
        self.channels.pop(self._bindings_number, None)  # txAMQP keeps one that was closed
        self._bindings = await self.channel(self._bindings_number)
        await self._bindings.channel_open()

    def channel_failed(self, channel: Any, reason: Failure) -> None:
        """A refusal of a binding concerns that one alone."""
        if channel.id != self._bindings_number or not self._is_refusal(channel.reason):
            super().channel_failed(channel, reason)

    def _is_refusal(self, closed: BaseException | Any) -> bool:
        """Whether the server did not let us, rather than found a fault or is gone."""
        said = closed.args[0] if isinstance(closed, Closed) and closed.args else closed
        return not self.closed and getattr(said, "reply_code", None) == ACCESS_REFUSED

    def subscribe(self, channel: str) -> Deferred[Any]:
        """Bind our queue to the exchange with this key. Fires when the server has done so."""
        return self._in_turn(channel, bind=True)

    def unsubscribe(self, channel: str) -> Deferred[Any]:
        """Take the binding back."""
        return self._in_turn(channel, bind=False)

    def _in_turn(self, channel: str, bind: bool) -> Deferred[None]:
        """Do it after all that was asked for before."""
        try:
            key = encode_key(channel)
        except AmqpError as error:
            return fail(NotAllowed(str(error)))
        if self.factory.exchange_type == b"fanout":
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._waiting.append(_Binding(key, bind, done))
        if not self._busy:
            Deferred.fromCoroutine(self._work())
        return done

    async def _work(self) -> None:
        self._busy = True
        while self._waiting:
            lot = [self._waiting.popleft() for _ in range(min(LOT, len(self._waiting)))]
            answers = await DeferredList([self._send(each) for each in lot], consumeErrors=True)
            for n, (binding, (good, answer)) in enumerate(zip(lot, answers, strict=True)):
                if good:
                    binding.done.callback(None)
                    continue
                refused = self._is_refusal(answer.value)
                if not refused:  # it is the end of the connection, which txAMQP tells later
                    self.lost = self.lost or self._reason(answer.value)
                binding.done.errback(self._explain(answer.value))
                if refused:
                    # What follows was not looked at: it is sent again on a new channel.
                    self._waiting.extendleft(reversed(lot[n + 1 :]))
                    with suppress(Closed):  # then the rest fails with the connection
                        await self._open_bindings()
                    break
        self._busy = False

    def _send(self, binding: _Binding) -> Deferred[Any]:
        methods = self._bindings
        if not binding.bind and not hasattr(methods, "queue_unbind"):
            return succeed(None)  # AMQP 0-8, in a file of the user's; it goes with the connection
        command = methods.queue_bind if binding.bind else methods.queue_unbind
        d: Deferred[Any] = command(queue=self._queue, exchange=self.factory.exchange, routing_key=binding.key)
        return d

    def _explain(self, error: BaseException) -> BaseException:
        if self._is_refusal(error):
            return NotAllowed(as_text(error.args[0].reply_text))
        return self._reason(error)

    def message_received(self, message: Any) -> None:
        """Hand a message on: its exchange, its routing key, the bytes and its type."""
        content = message.content
        kind = content.properties.get("type")
        try:
            # txAMQP 0.8.2 makes an empty body text, and a name bytes where it is not UTF-8
            self.factory.deliver(
                as_text(message.exchange),
                as_text(message.routing_key),
                content.body or b"",
                kind if isinstance(kind, str) else None,
            )
        except Exception:
            # Left alone, it would end the connection.
            self.log.failure("could not deliver a message")


class AmqpPublisherProtocol(AmqpProtocol):
    """A connection that publishes, and is told by the server what it has taken."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._published = 0
        self._unconfirmed: dict[int, Deferred[None]] = {}  # by delivery tag

    async def _ready(self) -> None:
        await self._ch.confirm_select()

    def publish(self, publications: Sequence[Publication]) -> Deferred[Any]:
        """Send a message for each channel. Fires when the server has taken them all; it gives no ids."""
        try:
            keys = [[encode_key(channel) for channel in each.channels] for each in publications]
        except AmqpError as error:
            return fail(Refusal(400, str(error)))
        exchange = self.factory.exchange
        settled = [
            self._publish(exchange, key, each.data, each.type)
            for each, own in zip(publications, keys, strict=True)
            for key in own
        ]
        return gatherResults(settled, consumeErrors=True).addCallback(lambda _: [None] * len(publications))

    def publish_order(self, order: bytes) -> Deferred[Any]:
        """Hand an order to every server that shares the exchange."""
        return Deferred.fromCoroutine(self._publish_order(order))

    async def _publish_order(self, order: bytes) -> None:
        await self._declare_control(self._ch)
        await self._publish(self.factory.control, b"", order, None)

    def _publish(self, exchange: bytes, key: bytes, message: bytes, type: str | None) -> Deferred[None]:
        if self.closed or self._ch.closed:
            return fail(self._reason())
        self._published += 1
        settled: Deferred[None] = Deferred()
        self._unconfirmed[self._published] = settled
        properties = {} if type is None else {"type": type.encode()}
        content = Content(message, properties=properties)
        self._ch.basic_publish(exchange=exchange, routing_key=key, content=content)
        return settled

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

    def connectionLost(self, reason: Failure) -> None:
        """Nobody knows whether what is unsettled was taken."""
        super().connectionLost(reason)
        self.publish_confirmed(self._published, True, str(self.lost))


class AmqpSubscriberFactory(AmqpFactory):
    """Makes connections that receive."""

    protocol = AmqpSubscriberProtocol


class AmqpPublisherFactory(AmqpFactory):
    """Makes connections that publish."""

    protocol = AmqpPublisherProtocol

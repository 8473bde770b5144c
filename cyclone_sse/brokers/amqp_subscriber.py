"""A connection to AMQP that receives messages from one queue and its bindings.

Independent of brokers and clients: messages are passed to a function.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.python.failure import Failure
from txamqp.client import Closed

from cyclone_sse.brokers.amqp_protocol import (
    AmqpError,
    AmqpFactory,
    AmqpMessage,
    AmqpProtocol,
    as_text,
    encode_key,
)
from cyclone_sse.brokers.link import NotAllowed

BINDINGS = 100  # requests for bindings that are under way together


class _Binding(NamedTuple):
    """A change of our queue's bindings. bind: make the binding, or remove it."""

    key: bytes
    bind: bool
    done: Deferred[None]


class AmqpSubscriberProtocol(AmqpProtocol):
    """A connection that receives from one exclusive queue, which is deleted with the connection.

    Each of our channels is a binding of the queue, so that a message arrives once, however many bindings it
    matches. The bindings are made on an AMQP channel of their own: when the server refuses a binding, it
    closes the channel, and must not end the consumer. A fanout exchange ignores bindings, and sends every
    message.

    has_heartbeat: heartbeats arrive on this connection.
    """

    has_heartbeat = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: deque[_Binding] = deque()
        self._busy = False
        self._bindings: Any = None  # the AMQP channel for them
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
                self.factory.exchange,
                self.factory.heartbeat_key,
                "heartbeats, by which a deleted queue is noticed",
            )
        await self._try_to_bind(
            self.factory.control, b"", "orders between servers, such as those of POST /disconnect"
        )

    async def _bind(self, exchange: bytes, key: bytes) -> None:
        await self._bindings.queue_bind(queue=self._queue, exchange=exchange, routing_key=key)

    async def _try_to_bind(self, exchange: bytes, key: bytes, what: str) -> bool:
        """Bind our queue to an exchange for our own messages. If the server refuses, the rest still works."""
        try:
            if exchange == self.factory.control:
                await self._declare_control(self._bindings)
            await self._bind(exchange, key)
        except Closed as closed:
            if not self._is_refusal(closed):
                raise
            self.log.error("RabbitMQ does not allow {what}: {why}", what=what, why=closed.args[0].reply_text)
            await self._open_bindings()
            return False
        return True

    async def _open_bindings(self) -> None:
        self._bindings = await self._open_second()

    def subscribe(self, channel: str) -> Deferred[Any]:
        """Bind our queue to the exchange with this key. Fires when the server has done so."""
        return self._in_turn(channel, bind=True)

    def unsubscribe(self, channel: str) -> Deferred[Any]:
        """Remove the binding."""
        return self._in_turn(channel, bind=False)

    def _in_turn(self, channel: str, bind: bool) -> Deferred[None]:
        """Make the change after all changes that were requested before."""
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
                # The server ignored the following requests: they are sent again on a new channel.
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
        """Pass a message to the broker."""
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
            # Without this, it would end the connection.
            self.log.failure("could not deliver a message")


class AmqpSubscriberFactory(AmqpFactory):
    """Makes connections that receive."""

    protocol = AmqpSubscriberProtocol

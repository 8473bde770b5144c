"""AMQP over txAMQP: a connection that subscribes, one that publishes, and the factory of both.

Knows nothing of brokers or clients: a message goes to the function given. Names and passwords
go to txAMQP as bytes, see ``wire``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, DeferredList, fail, gatherResults, succeed
from twisted.internet.error import ConnectionClosed, ConnectionLost
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp.client import Closed
from txamqp.content import Content
from txamqp.protocol import AMQClient

from cyclone_sse.brokers.amqp_wire import SPEC, Delegate, load_spec
from cyclone_sse.delivery.publication import Publication
from cyclone_sse.errors import Refusal

HEARTBEAT = 30  # seconds
NAME_MAX = 255  # bytes of a channel's name: AMQP 0-9-1, 4.2.5.3, short strings
LEAVE_WAIT = 1.0  # seconds to wait for the answer to our good-bye

ACCESS_REFUSED = 403  # AMQP 0-9-1, 1.2
LOT = 100  # bindings that are under way together
CONTROL = b".control"  # what the exchange for orders has at the end of its name

Deliver = Callable[[str, str, bytes, str | None], None]


class AmqpError(Exception):
    """What the AMQP server does not let us do; the text is its own, or says what we know."""


class _Binding(NamedTuple):
    """A change of what our queue gets. bind: make it, or take it back."""

    key: bytes
    bind: bool
    done: Deferred[None]


class AmqpProtocol(AMQClient):  # type: ignore[misc]
    """A connection that has logged in and has declared the exchange.

    factory: what to log in with, and the exchange. gone, lost: see ``upstream.Link``.
    """

    # An interval without anything received is a warning, a second one the end: AMQP 0-9-1, 4.2.7.
    MAX_UNSEEN_HEARTBEAT = 2
    log = Logger()

    def __init__(self, factory: AmqpFactory, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.factory = factory
        self.gone: Deferred[BaseException] = Deferred()
        self.lost: BaseException | None = None
        self._error: AmqpError | None = None  # the server's reason for closing
        self._ch: Any = None

    def connectionMade(self) -> None:
        """Nagle's algorithm would hold back a command for the answer to the one before."""
        self.transport.setTcpNoDelay(True)
        super().connectionMade()

    def greet(self) -> Deferred[Any]:
        """Log in, open the channel, declare the exchange. Fails with what the server says."""
        return Deferred.fromCoroutine(self._greet())

    async def _greet(self) -> None:
        factory = self.factory
        # Not AMQPLAIN, whose table of txAMQP's takes no bytes.
        answer = b"\0%s\0%s" % (factory.username.encode(), factory.password.encode())
        try:
            await self.start(answer, "PLAIN")
        except Closed as closed:
            # RabbitMQ says nothing, it just closes ("authentication_failure_close" is for those
            # whose library can announce it).
            error = self._reason(closed)
            if isinstance(error, ConnectionClosed):
                error = AmqpError("it hung up at the log-in: wrong user name or password?")
            raise error from None
        try:
            self._ch = await self.channel(factory.channel)
            await self._ch.channel_open()
            await self._ch.exchange_declare(exchange=factory.exchange, type=factory.exchange_type)
            await self._ready()
        except Closed as closed:
            raise self._reason(closed) from None

    async def _ready(self) -> None:
        """What else to do before the connection is used."""

    async def _declare_control(self, ch: Any) -> None:
        """Orders to all servers have an exchange of their own, in which no client can name a key."""
        await ch.exchange_declare(exchange=self.factory.control, type=b"fanout")

    async def _leave(self) -> None:
        with suppress(Closed):  # the server was first
            await self.close(within=LEAVE_WAIT)

    def leave(self) -> Deferred[None]:
        """Close the connection as AMQP wants it, so that the server does not complain."""
        return Deferred.fromCoroutine(self._leave())

    def dataReceived(self, data: bytes) -> None:
        """Bytes came in. If it is not AMQP, txAMQP fails in one way or another."""
        try:
            super().dataReceived(data)
        except Exception as error:
            self._error = AmqpError(f"what it sends is not AMQP: {error}")
            self.transport.abortConnection()

    def frameLengthExceeded(self, data: bytes) -> None:
        """txAMQP 0.8.2 calls this and has none."""
        raise ValueError("a frame without end")

    def do_close(self, reason: Any) -> None:
        """The connection ends; if the server wants it, reason is what it says."""
        self._note(reason)
        super().do_close(reason)

    def channel_failed(self, channel: Any, reason: Failure) -> None:
        """The server closed our channel, for what it calls an error; so start all over."""
        self._note(channel.reason)
        self.transport.loseConnection()

    def check_heartbeat(self) -> None:
        """Nothing has come for two intervals."""
        self._error = AmqpError("no heartbeat")
        super().check_heartbeat()

    def connectionLost(self, reason: Failure) -> None:
        """Everything that waits for an answer fails."""
        self.lost = self._error or reason.value
        super().connectionLost(reason)
        self.gone.callback(self._reason())

    def delivered(self, message: Any) -> None:
        """A message came in."""

    def settled(self, tag: int, multiple: bool, error: str | None) -> None:
        """A message that we sent was taken, or not if there is an error."""

    def _note(self, reason: Any = None) -> None:
        text = getattr(reason, "reply_text", None)
        if self._error is None and text is not None:
            self._error = AmqpError(_text(text))

    def _reason(self, closed: BaseException | None = None) -> BaseException:
        """Why the connection or channel was closed, instead of that it was."""
        if isinstance(closed, Closed):
            self._note(*closed.args)
        return self._error or self.lost or ConnectionLost()


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
        except AmqpError:
            return fail()
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
            return AmqpError(_text(error.args[0].reply_text))
        return self._reason(error)

    def delivered(self, message: Any) -> None:
        """Hand a message on: its exchange, its routing key, the bytes and its type."""
        content = message.content
        kind = content.properties.get("type")
        try:
            # txAMQP 0.8.2 makes an empty body text, and a name bytes where it is not UTF-8
            self.factory.deliver(
                _text(message.exchange),
                _text(message.routing_key),
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
        self._unsettled: dict[int, Deferred[None]] = {}  # by delivery tag

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
        self._unsettled[self._published] = settled
        properties = {} if type is None else {"type": type.encode()}
        content = Content(message, properties=properties)
        self._ch.basic_publish(exchange=exchange, routing_key=key, content=content)
        return settled

    def settled(self, tag: int, multiple: bool, error: str | None) -> None:
        """Tags count up from 1, and `multiple` means all up to this one."""
        tags = [each for each in self._unsettled if each <= tag] if multiple else [tag]
        for each in tags:
            waiting = self._unsettled.pop(each, None)
            if waiting is None or waiting.called:
                continue
            if error is None:
                waiting.callback(None)
            else:
                waiting.errback(AmqpError(error))

    def connectionLost(self, reason: Failure) -> None:
        """Nobody knows whether what is unsettled was taken."""
        super().connectionLost(reason)
        self.settled(self._published, True, str(self.lost))


class AmqpFactory(Factory):
    """Makes connections.

    deliver: called with the exchange, the routing key, the bytes and the type (or None) of each message.
    specification: the file. vhost, username, password, exchange, exchange_type: text.
    channel: the number of the AMQP channel to use. heartbeat: seconds, 0 for none.
    Raises ValueError if the file is none.
    """

    protocol: type[AmqpProtocol] = AmqpProtocol
    noisy = False

    def __init__(
        self,
        deliver: Deliver,
        *,
        specification: str | Path = SPEC,
        vhost: str = "/",
        username: str = "guest",
        password: str = "guest",
        exchange: str = "sse-cyclone-server",
        exchange_type: str = "direct",
        channel: int = 1,
        heartbeat: int = HEARTBEAT,
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.deliver = deliver
        self.spec = load_spec(specification)
        self.vhost = vhost.encode()
        self.username = username
        self.password = password
        self.exchange = exchange.encode()
        self.control = self.exchange + CONTROL
        self.exchange_type = exchange_type.encode()
        self.channel = channel
        self.heartbeat = heartbeat
        self.reactor = reactor

    def buildProtocol(self, addr: IAddress | None) -> AmqpProtocol:
        """Make one connection."""
        return self.protocol(
            self, Delegate(), vhost=self.vhost, spec=self.spec, heartbeat=self.heartbeat, clock=self.reactor
        )


class AmqpSubscriberFactory(AmqpFactory):
    """Makes connections that receive."""

    protocol = AmqpSubscriberProtocol


class AmqpPublisherFactory(AmqpFactory):
    """Makes connections that publish."""

    protocol = AmqpPublisherProtocol


def encode_key(channel: str) -> bytes:
    """The name of a channel as AMQP takes it. Raises AmqpError if it does not."""
    try:
        name = channel.encode()
    except UnicodeError:
        raise AmqpError("the channel's name is not UTF-8") from None
    if len(name) > NAME_MAX:
        raise AmqpError(f"the channel's name is longer than {NAME_MAX} bytes")
    return name


def _text(raw: str | bytes) -> str:
    """txAMQP gives bytes where a name is not UTF-8, which ours all are."""
    return raw if isinstance(raw, str) else raw.decode("utf-8", "backslashreplace")

"""A connection to AMQP over txAMQP, and its factory: log-in, the exchange, and the end.

``amqp_subscriber`` and ``amqp_publisher`` use such connections. Names and passwords are passed to txAMQP as
bytes, see ``amqp_wire``.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed, ConnectionLost
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp.client import Closed
from txamqp.protocol import AMQClient

from cyclone_sse.brokers.amqp_wire import SPEC, Delegate, load_spec
from cyclone_sse.brokers.sliced_reads import SlicedReads
from cyclone_sse.reactors import reactor_or_global

LOG_OUT_WAIT = 1.0  # seconds to wait for the answer when a connection is closed
CONTROL_SUFFIX = b".control"  # the end of the name of the exchange for orders
HEARTBEAT_TYPE = "sse-heartbeat"  # of messages that prove that messages arrive; no publisher can use it
SHORT_MAX = 255  # bytes of a short string
ACCESS_REFUSED, NOT_FOUND = 403, 404  # AMQP 0-9-1, 1.2
_GENERATED = re.compile(r"'amq\.gen-[^']*'")  # a queue whose name RabbitMQ has chosen


class AmqpMessage(NamedTuple):
    """A message from a queue. exchange, key: where it was published. id: its message-id."""

    exchange: str
    key: str
    body: bytes
    type: str | None
    id: str | None
    headers: Mapping[str, Any]


_Deliver = Callable[[str, str, bytes, str | None], None]
Receive = Callable[[AmqpMessage], object]


class AmqpError(Exception):
    """The AMQP server has refused a request; the text is that of the server, or the reason as far as it is
    known.

    code: its reply code, 0 if there is none.
    """

    def __init__(self, reason: str, code: int = 0) -> None:
        super().__init__(reason)
        self.code = code


class AmqpProtocol(AMQClient):  # type: ignore[misc]
    """A connection that has logged in and has declared the exchange.

    factory: what to log in with, and the exchange. ended, lost, blocked: see ``link.Link``.
    """

    # An interval without anything received is a warning, a second one the end: AMQP 0-9-1, 4.2.7.
    MAX_UNSEEN_HEARTBEAT = 2
    log = Logger()

    def __init__(self, factory: AmqpFactory, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.factory = factory
        self.ended: Deferred[BaseException] = Deferred()
        self.lost: BaseException | None = None
        self.blocked: str | None = None
        self._error: Exception | None = None  # the server's reason for closing, or ours
        self._ch: Any = None
        self._reads = SlicedReads(self._process, factory.reactor)
        # Of a second channel, for what the server may refuse: with a refusal it closes the channel.
        self._second_number = factory.channel + (-1 if factory.channel > 1 else 1)

    def connectionMade(self) -> None:
        """Disable Nagle's algorithm, which would delay a command until the one before is answered."""
        self.transport.setTcpNoDelay(True)
        super().connectionMade()

    def log_in(self) -> Deferred[Any]:
        """Log in, open the channel, declare the exchange. Fails with the server's reason."""
        return Deferred.fromCoroutine(self._log_in())

    async def _log_in(self) -> None:
        factory = self.factory
        # Not AMQPLAIN: txAMQP cannot encode bytes in the table that it needs.
        answer = b"\0%s\0%s" % (factory.username.encode(), factory.password.encode())
        try:
            await self.start(answer, "PLAIN")
        except Closed as closed:
            # RabbitMQ says nothing, it just closes ("authentication_failure_close" is for libraries that
            # announce it).
            error = self._reason(closed)
            if isinstance(error, ConnectionClosed):
                error = AmqpError("it closed the connection at the login: wrong user name or password?")
            raise error from None
        try:
            self._ch = await self.channel(factory.channel)
            await self._ch.channel_open()
            if await self._may_declare(factory.exchange):
                await self._ch.exchange_declare(exchange=factory.exchange, type=factory.exchange_type)
                if await self._may_declare(factory.control):
                    await self._set_up()
        except Closed as closed:
            raise self._reason(closed) from None

    async def _may_declare(self, exchange: bytes) -> bool:
        """Whether to declare an exchange; for a check only if it exists, so that nothing changes."""
        if not self.factory.only_checks:
            return True
        second = await self._open_second()
        try:
            await second.exchange_declare(exchange=exchange, type=b"direct", passive=True)
            await second.channel_close()
        except Closed as closed:
            if not self._is_refusal(closed, NOT_FOUND):
                raise
            self.log.error("RabbitMQ has no exchange {name!r}: the start makes it", name=as_text(exchange))
            return False
        return True

    async def _set_up(self) -> None:
        """Prepare the connection before it is used: a hook for subclasses."""

    async def _open_second(self) -> Any:
        self.channels.pop(self._second_number, None)  # without this, txAMQP returns the closed one
        second = await self.channel(self._second_number)
        await second.channel_open()
        return second

    async def _declare_control(self, ch: Any) -> None:
        """Declare the exchange for orders to all servers, to which no client can subscribe."""
        await ch.exchange_declare(exchange=self.factory.control, type=b"fanout")

    async def _log_out(self) -> None:
        with suppress(Closed):  # the server was first
            await self.close(within=LOG_OUT_WAIT)

    def log_out(self) -> Deferred[None]:
        """Close the connection as AMQP specifies, so that the server does not log an error."""
        return Deferred.fromCoroutine(self._log_out())

    def abort(self, error: Exception) -> None:
        """End the connection at once, for this reason."""
        self._error = self._error or error
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """Read bytes."""
        self._reads.read(data, self.transport)

    def _process(self, data: bytes) -> None:
        try:
            super().dataReceived(data)  # which may raise any exception if this is not AMQP
        except Exception as error:
            self.abort(AmqpError(f"what it sends is not AMQP: {error}"))

    def frameLengthExceeded(self, data: bytes) -> None:
        """Raise ValueError for a frame that is too long. txAMQP 0.8.2 calls this, but does not define it."""
        raise ValueError("a frame without its end byte")

    def do_close(self, reason: Any) -> None:
        """Note that the connection ends. reason: the server's, if the server closes it."""
        self._note(reason)
        super().do_close(reason)

    def channel_failed(self, channel: Any, reason: Failure) -> None:
        """End the connection, since the server has closed our channel because of an error; but not if it has
        only refused what we asked on the second channel.
        """
        if self.factory.only_checks and self._is_refusal(channel.reason, NOT_FOUND):
            return
        if channel.id == self._second_number and self._is_refusal(channel.reason):
            self._second_refused(as_text(channel.reason.reply_text))
            return
        self._note(channel.reason)
        self.transport.loseConnection()

    def _second_refused(self, why: str) -> None:
        """The second channel was closed with a refusal: a hook for subclasses."""

    def _is_refusal(self, closed: BaseException | Any, code: int = ACCESS_REFUSED) -> bool:
        """Whether the server refused with this code; other reasons are an error or a lost connection."""
        said = closed.args[0] if isinstance(closed, Closed) and closed.args else closed
        return not self.closed and getattr(said, "reply_code", None) == code

    def check_heartbeat(self) -> None:
        """End the connection: nothing was received for two intervals."""
        self._error = AmqpError("no heartbeat")
        super().check_heartbeat()

    def connectionLost(self, reason: Failure) -> None:
        """Fail everything that waits for an answer."""
        self.lost = self._error or reason.value
        self._reads.stop()
        super().connectionLost(reason)
        self.ended.callback(self._reason())

    def message_received(self, message: Any) -> None:
        """Process a message from a queue: a hook for subclasses."""

    def message_returned(self, message: Any) -> None:
        """Process a message of ours that was returned, since it reached no queue: a hook for subclasses."""

    def publish_confirmed(self, channel: int, tag: int, multiple: bool, error: str | None) -> None:
        """Note that a message of ours on this channel was accepted, or refused for this error: a hook for
        subclasses.
        """

    def publishing_blocked(self, reason: str) -> None:
        """Note that the server accepts no messages for now."""
        self.blocked = reason

    def publishing_unblocked(self) -> None:
        """Note that the server accepts messages again."""
        self.blocked = None

    def _note(self, reason: Any = None) -> None:
        text = getattr(reason, "reply_text", None)
        if self._error is None and text is not None:
            # Without this, each attempt to connect would be a line in the log: the name is always a new one.
            text = _GENERATED.sub("'amq.gen-...'", as_text(text))
            self._error = AmqpError(text, getattr(reason, "reply_code", 0))

    def _reason(self, closed: BaseException | None = None) -> BaseException:
        """The reason why the connection or channel was closed, in place of the fact that it was."""
        if isinstance(closed, Closed):
            self._note(*closed.args)
        return self._error or self.lost or ConnectionLost()


class AmqpFactory(Factory):
    """Makes connections.

    deliver: called with the exchange, the routing key, the bytes and the type (or None) of each message.
    receive: called with each message instead, as an AmqpMessage. unroutable: called when a heartbeat finds no
    queue. specification: the file. vhost, username, password, exchange, exchange_type: text. channel: the
    number of the AMQP channel to use. heartbeat: seconds, 0 for none. heartbeat_key: routing key of the
    messages that prove that messages arrive. Raises ValueError if the file is not a specification.
    """

    protocol: type[AmqpProtocol] = AmqpProtocol
    noisy = False
    only_checks = False

    def __init__(
        self,
        deliver: _Deliver,
        *,
        receive: Receive | None = None,
        unroutable: Callable[[str], object] = lambda token: None,
        specification: str | Path = SPEC,
        vhost: str = "/",
        username: str = "guest",
        password: str = "guest",
        exchange: str = "sse-cyclone-server",
        exchange_type: str = "direct",
        channel: int = 1,
        heartbeat: int = 30,
        heartbeat_key: str = "",
        reactor: IReactorTime | None = None,
    ) -> None:
        reactor = reactor_or_global(reactor)
        self.receive: Receive = receive or (lambda it: deliver(it.exchange, it.key, it.body, it.type))
        self.unroutable = unroutable
        self.spec = load_spec(specification)
        self.vhost = vhost.encode()
        self.username = username
        self.password = password
        self.exchange = exchange.encode()
        self.control = self.exchange + CONTROL_SUFFIX
        self.exchange_type = exchange_type.encode()
        self.channel = channel
        self.heartbeat = heartbeat
        self.heartbeat_key = (heartbeat_key or f"cyclone-sse-{secrets.token_hex(8)}").encode()
        self.reactor = reactor

    def buildProtocol(self, addr: IAddress | None) -> AmqpProtocol:
        """Make one connection."""
        return self.protocol(
            self, Delegate(), vhost=self.vhost, spec=self.spec, heartbeat=self.heartbeat, clock=self.reactor
        )


def encode_key(channel: str) -> bytes:
    """The name of a channel as a routing key. Raises AmqpError if it cannot be one."""
    return encode_short(channel, "the channel's name")


def encode_short(text: str, what: str) -> bytes:
    """The text as a short string (AMQP 0-9-1, 4.2.5.3). Raises AmqpError if it cannot be one."""
    try:
        encoded = text.encode()
    except UnicodeError:
        raise AmqpError(f"{what} is not UTF-8") from None
    if len(encoded) > SHORT_MAX:
        raise AmqpError(f"{what} is longer than {SHORT_MAX} bytes")
    return encoded


def as_text(raw: str | bytes) -> str:
    """The name as text; txAMQP returns bytes for a name that is not UTF-8, but ours always are."""
    return raw if isinstance(raw, str) else raw.decode("utf-8", "backslashreplace")

"""The two brokers behind one interface, so that one test checks both."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from contextlib import suppress

import pika
import pika.exceptions

from tests.harness.patience import PATIENCE
from tests.harness.process import need
from tests.harness.servers import RabbitServer, RedisServer, redis_command

EXCHANGE = "sse-cyclone-server"
PASSWORD = "the right one"


class Upstream:
    """A broker that the test may do anything to."""

    server: RabbitServer | RedisServer
    name: str
    fast: tuple[str, ...] = ()  # options with which silence is noticed soon

    @property
    def options(self) -> list[str]:
        """What lets the daemon use this broker."""
        return [f"--broker={self.name}", f"--{self.name}-port={self.server.port}"]

    def publish(self, channel: str, *messages: str | bytes) -> None:
        """Publish with a tool that has nothing to do with us."""
        raise NotImplementedError

    def subscriptions(self) -> set[str]:
        """What the broker says that it sends somewhere."""
        raise NotImplementedError

    def demand_password(self) -> Callable[[], None]:
        """From now on log-ins need a password other than the default; the function undoes it."""
        raise NotImplementedError

    def restart(self) -> None:
        """Start again after a kill."""
        self.server.start()


class RedisUpstream(Upstream):
    name = "redis"
    server: RedisServer

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.cli = [need("redis-cli"), "-p", str(server.port)]

    def publish(self, channel: str, *messages: str | bytes) -> None:
        for message in messages:
            self.server.publish(channel, message)

    def publish_many(self, channel: str, messages: Iterable[str]) -> None:
        """All at once, through redis-cli, which reads commands of the protocol itself."""
        protocol = b"".join(redis_command("PUBLISH", channel, message) for message in messages)
        subprocess.run([*self.cli, "--pipe"], input=protocol, check=True, capture_output=True)

    def subscriptions(self) -> set[str]:
        done = subprocess.run(
            [*self.cli, "PUBSUB", "CHANNELS"], check=True, capture_output=True, text=True, timeout=PATIENCE
        )
        return set(done.stdout.split())

    def demand_password(self) -> Callable[[], None]:
        self.server.command("CONFIG", "SET", "requirepass", PASSWORD)

        def undo() -> None:
            with_password = [*self.cli, "-a", PASSWORD, "CONFIG", "SET", "requirepass", ""]
            subprocess.run(with_password, check=True, capture_output=True, timeout=PATIENCE)

        return undo


class RabbitUpstream(Upstream):
    name = "amqp"
    fast = ("--amqp-heartbeat=1",)
    server: RabbitServer

    def __init__(self, server: RabbitServer) -> None:
        self.server = server
        self._connection: pika.BlockingConnection | None = None

    def channel(self) -> pika.adapters.blocking_connection.BlockingChannel:
        """A channel of pika's, on a connection that is kept."""
        if self._connection is not None and self._connection.is_open:
            with suppress(pika.exceptions.AMQPError):
                self._connection.process_data_events()
        if self._connection is None or not self._connection.is_open:
            where = pika.ConnectionParameters("127.0.0.1", self.server.port, heartbeat=0)
            self._connection = pika.BlockingConnection(where)
            self._channel = self._connection.channel()
        return self._channel

    def publish(self, channel: str, *messages: str | bytes) -> None:
        ours = self.channel()
        for message in messages:
            ours.basic_publish(EXCHANGE, channel, message.encode() if isinstance(message, str) else message)

    def publish_many(self, channel: str, messages: Iterable[str]) -> None:
        """All at once."""
        self.publish(channel, *messages)

    def subscriptions(self) -> set[str]:
        bindings = self.server.listed("list_bindings", "source_name", "routing_key")
        rows = [line.split("\t") for line in bindings.splitlines()]
        return {key for source, key in rows if source == EXCHANGE and not key.startswith("cyclone-sse-")}

    def queues(self) -> list[str]:
        """The queues there are, each with its attributes."""
        listed = self.server.listed("list_queues", "exclusive", "auto_delete", "consumers")
        return listed.splitlines()[1:]

    def demand_password(self) -> Callable[[], None]:
        self.server.control("change_password", "guest", PASSWORD)

        def undo() -> None:
            self.server.control("change_password", "guest", "guest")

        return undo

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None and self._connection.is_open:
            with suppress(pika.exceptions.AMQPError):
                self._connection.close()

"""``Publisher``: blocking calls to a server over persistent connections, safe to share between threads."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Iterable
from typing import Any, Self

from cyclone_sse_client.attempts import Attempts
from cyclone_sse_client.calls import Call, Calls, Dumps, Message, Published, Result, State
from cyclone_sse_client.connections import Connections
from cyclone_sse_client.errors import Unavailable

TIMEOUT = 5.0  # seconds for one attempt
PATIENCE = 15.0  # seconds for all attempts of one call


class Publisher:
    """Publishes to the server at ``url`` (``http://127.0.0.1:8888``, or ``unix:/run/cyclone-sse.sock``).

    ``key`` is the server's ``--http-secret``, or a token with a claim ``publish``. One attempt takes at most
    about ``timeout`` seconds. After a lost connection, or the status 429, 502, 503 or 504, a call is repeated,
    for up to ``patience`` seconds in total (0: never). A call that is repeated is published once.

    Create one for the process: all threads can share it and its connections.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = TIMEOUT,
        patience: float = PATIENCE,
        dumps: Dumps = json.dumps,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.calls = Calls(key, dumps)
        self.timeout = timeout
        self.patience = patience
        self._connections = Connections(url, context)

    def publish(
        self,
        channels: str | Iterable[str],
        message: Any,
        *,
        event: str | None = None,
        keep: bool = False,
        ttl: float | None = None,
        except_: str | None = None,
        retry: int | None = None,
        idempotency_key: str | None = None,
    ) -> Published:
        """Publish a message to one channel or several.

        A text is sent unchanged, anything else as JSON. ``event`` is the type of the event; with ``keep`` the
        event becomes the state of its channels; ``ttl`` is the time in seconds for which it is kept for
        clients that reconnect (0: not at all); ``except_`` is the id of a client that does not receive the
        event; ``retry`` is a new reconnection time in milliseconds.
        """
        return self.call(
            self.calls.publish(
                channels,
                message,
                event=event,
                keep=keep,
                ttl=ttl,
                except_=except_,
                retry=retry,
                idempotency_key=idempotency_key,
            )
        )

    def batch(self, messages: Iterable[Message], *, idempotency_key: str | None = None) -> Published:
        """Publish several messages in one request: all of them in this order, or none."""
        return self.call(self.calls.batch(messages, idempotency_key=idempotency_key))

    def disconnect(self, *, user: object = None, channels: str | Iterable[str] | None = None) -> int:
        """End the streams of a user, or of channels; returns the number of streams on this server.

        Their clients reconnect, and are authorised again.
        """
        return self.call(self.calls.disconnect(user=user, channels=channels))

    def clear(self, channels: str | Iterable[str]) -> None:
        """Delete the state and the history of channels."""
        self.call(self.calls.clear(channels))

    def presence(self, channel: str) -> dict[str, Any]:
        """The members of a channel: ``{"channel": .., "members": {user: ..}, "anonymous": ..}``."""
        return self.call(self.calls.presence(channel))

    def state(self, channels: str | Iterable[str]) -> dict[str, State]:
        """The states of these channels, without channels that have none."""
        return self.call(self.calls.state(channels))

    def call(self, call: Call[Result]) -> Result:
        """Send a call that was made with ``calls``, repeat it if necessary, and return its result."""
        attempts = Attempts(self.patience)
        while True:
            try:
                return self._attempt(call)
            except Unavailable as failure:
                failure.idempotency_key = call.headers.get("Idempotency-Key")
                time.sleep(attempts.pause(failure))

    def close(self) -> None:
        """Close the idle connections."""
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _attempt(self, call: Call[Result]) -> Result:
        kept = self._connections.pop_idle(self.timeout)
        if kept is not None:
            try:
                return self._exchange(kept, call)
            except (ConnectionError, http.client.HTTPException):
                pass  # The server has closed it while it was idle: this is not a failure, and needs no pause.
            except OSError as error:
                raise no_answer(self._connections.server, error, ConnectionRefusedError) from error
        try:
            return self._exchange(self._connections.open(self.timeout), call)
        except (OSError, http.client.HTTPException) as error:
            raise no_answer(self._connections.server, error, ConnectionRefusedError) from error

    def _exchange(self, connection: http.client.HTTPConnection, call: Call[Result]) -> Result:
        try:
            connection.request(call.method, self._connections.prefix + call.path, call.body, dict(call.headers))
            with connection.getresponse() as answer:
                body = answer.read()
        except BaseException:
            connection.close()
            raise
        self._connections.keep(connection)
        return call.result(answer.status, {name.lower(): value for name, value in answer.getheaders()}, body)


def no_answer(server: str, error: Exception, never_sent: type[Exception]) -> Unavailable:
    """The failure of an attempt. never_sent: the errors after which nothing can have been published."""
    reason = str(error) or type(error).__name__
    return Unavailable(f"no answer from {server}: {reason}", published=False if isinstance(error, never_sent) else None)

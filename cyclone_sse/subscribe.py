"""Subscribe: ``GET /?channels=a``.

The client's channels and its right to them are decided, then it is registered.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.python.failure import Failure

from cyclone_sse.access.grant import Grant
from cyclone_sse.delivery.publication import channel_names
from cyclone_sse.errors import Refusal
from cyclone_sse.http.forms import NO_FIELDS
from cyclone_sse.http.headers import NO_HEADERS
from cyclone_sse.sse_handler import ExtendedSSEHandler

_MISTAKES = (tuple, list, types.FunctionType, types.MethodType)


class BroadcastHandler(ExtendedSSEHandler):
    """Subscribe: ``GET /?channels=a&channels=b``.

    Override ``get_channels`` and ``authorize`` to decide what a client may receive, ``bind`` and
    ``unbind`` (and call the inherited ones) to be notified of clients, ``sendEvent`` to change what they
    receive.
    """

    channels: Sequence[str] = ()
    _question: Deferred[Any] | None = None  # to --auth-url, while it is under way

    def get_channels(self) -> Iterable[str]:
        """The channels that the client requests; if there are none, the client is refused with 400."""
        return channel_names(self.request.arguments)

    def authorize(self) -> Any:
        """Whether the client may subscribe: any true or false value, or a Deferred or coroutine of one.

        False refuses the client with 401, a raised HTTPError with its status. Called after the rules of the
        options, which apply too.
        """
        return True

    def admit(self) -> Deferred[Any] | None:
        """Refuse the client, or wait until the events of its channels are received."""
        self.channels = list(dict.fromkeys(filter(None, self.get_channels())))
        if not self.channels:
            raise Refusal(400, "name at least one channel: ?channels=...")
        rules = self.rules
        rules.check_names(self.channels)
        asks = "state" in self.request.arguments and self._wants_state()
        if asks and any(map(self.broker.is_pattern, self.channels)):
            raise Refusal(400, "a pattern has no state: leave out state, or name the channels")
        grant = rules.subscriber(self.request, self.channels)
        if grant is not None:
            self.request.arguments.pop("access_token", None)  # an application may log them
            if isinstance(grant, Deferred):
                self._question = grant
                return grant.addCallbacks(self._granted, self._cancelled)
        return self._granted(grant)

    def _granted(self, grant: Grant | None) -> Deferred[Any] | None:
        self._question = None
        if grant is not None:
            self.user, self.expires, self.channels = grant.user, grant.expires, grant.subscribe
            self.is_private = not self.rules.are_public(self.channels)
            self.info = None if grant.info is None else json.loads(grant.info)
        allowed = self.authorize()
        if allowed is not True and (isinstance(allowed, Deferred) or inspect.iscoroutine(allowed)):
            return maybeDeferred(lambda: allowed).addCallback(self._authorized)
        return self._authorized(allowed)

    def _authorized(self, allowed: object) -> Deferred[Any] | None:
        if allowed is not True and (
            isinstance(allowed, _MISTAKES) or inspect.isgenerator(allowed) or inspect.isawaitable(allowed)
        ):
            # It is true whatever it holds: (False, "why"), a list without a member, a method that was not
            # called. Without this, each of them would allow every client.
            raise TypeError(
                f"authorize() of {type(self).__name__} returned {type(allowed).__name__}, not true or false"
            )
        if not allowed:
            raise Refusal(401, "this client may not subscribe")
        return None if self._gone else self.broker.ready(self.channels, self._resume_id)

    def _cancelled(self, failure: Failure) -> None:
        failure.trap(CancelledError)  # by `on_connection_closed`: the client has left

    def on_connection_closed(self, *args: Any, **kwargs: Any) -> None:
        """Unregister the client, and cancel the question to ``--auth-url`` about it."""
        super().on_connection_closed(*args, **kwargs)
        if self._question is not None:
            self._question.cancel()

    def bind(self) -> None:
        """Subscribe the client to its channels: first to missed events, then to new ones."""
        self._log_client("{ip} subscribes to {channels}")
        client = self.subscriber
        assert client is not None
        self.broker.add_client(self, self.channels, self._resume_id)
        self.channels = client.channels  # the same tuple for all clients of these channels
        if type(self) is BroadcastHandler and not client.is_poll:
            # Nothing needs them from here on; a subclass's unbind may want its cookies.
            self.request.headers = NO_HEADERS
            self.request.arguments = self.request.parameters = NO_FIELDS
            self.request.access_token = None

    def unbind(self) -> None:
        """Unsubscribe the client, which is gone."""
        self.broker.remove_client(self)
        self._log_client("{ip} has left {channels}")

    def _log_client(self, what: str) -> None:
        if self.broker.settings["log-level"] == "debug":
            self.log.debug(what, ip=self.request.remote_ip, channels=self.channels)

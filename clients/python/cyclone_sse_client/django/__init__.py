"""cyclone-sse for Django: put ``cyclone_sse_client.django`` into ``INSTALLED_APPS``, and name the server.

::

    CYCLONE_SSE = {"URL": "http://127.0.0.1:8888", "KEY": "...", "MAY_SUBSCRIBE": "shop.push.may_subscribe"}

- ``publish(channels, message, ..)``  when the transaction has been committed; a failure is only logged
- ``publish_now(channels, message, ..)``  at once, with the result or an exception; for tasks and commands
- ``disconnect(user=..)``  ends streams on commit; called automatically when a user logs out
- ``presence(channel)``, ``state(channels)``  ask the server, at once
- ``views.may_subscribe``  the view for the server's ``--auth-url``; your function decides
- ``{% load cyclone_sse %}{% sse_token %}``  a token for the page's user
- ``backends.RecordingBackend``  for tests: appends the calls to ``backends.outbox``, and sends nothing
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cyclone_sse_client.calls import Call, Calls, Message, Published, State
from cyclone_sse_client.django import conf

__all__ = ["Message", "batch", "clear", "disconnect", "presence", "publish", "publish_now", "state"]


def publish(channels: str | Iterable[str], message: Any, *, using: str | None = None, **fields: Any) -> None:
    """Publish when the transaction of the database ``using`` has been committed, at once outside of one.

    The message is encoded at once, with Django's encoder, which accepts Decimal, datetime, UUID and lazy
    texts; later changes of the object are not sent. Further fields are those of ``Publisher.publish``. Django
    logs a failure, and the request succeeds nevertheless.
    """
    _on_commit(conf.calls().publish(channels, message, **fields), using)


def batch(messages: Iterable[Message], *, using: str | None = None) -> None:
    """Publish several messages in one request, on commit: all of them, or none."""
    _on_commit(conf.calls().batch(messages), using)


def disconnect(*, user: object = None, channels: str | Iterable[str] | None = None, using: str | None = None) -> None:
    """End the streams of a user, or of channels, on commit. ``user`` is a user object or its key."""
    _on_commit(_disconnect(user, channels), using)


def clear(channels: str | Iterable[str], *, using: str | None = None) -> None:
    """Delete the state and the history of channels, on commit."""
    _on_commit(conf.calls().clear(channels), using)


def publish_now(channels: str | Iterable[str], message: Any, **fields: Any) -> Published:
    """Publish at once, without waiting for the transaction; raises the same as ``Publisher.publish``."""
    return conf.backend().call(conf.calls().publish(channels, message, **fields))


def presence(channel: str) -> dict[str, Any]:
    """The members of a channel at this moment."""
    return conf.backend().call(conf.calls().presence(channel))


def state(channels: str | Iterable[str]) -> dict[str, State]:
    """The states of these channels at this moment, without channels that have none."""
    return conf.backend().call(conf.calls().state(channels))


def _disconnect(user: object, channels: str | Iterable[str] | None) -> Call[int]:
    calls: Calls = conf.calls()
    return calls.disconnect(user=getattr(user, "pk", user), channels=channels)


def _on_commit(call: Call[Any], using: str | None) -> None:
    from django.db import transaction

    backend = conf.backend()

    # A function with a name: Django 5.2 names it in its log, and fails for a functools.partial.
    def send_to_cyclone_sse() -> None:
        backend.call(call)

    # robust: without this, a failed publish would also fail the request.
    transaction.on_commit(send_to_cyclone_sse, using=using, robust=True)

"""The setting ``CYCLONE_SSE``, and the objects that are made from it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any, Protocol

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.serializers.json import DjangoJSONEncoder
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from cyclone_sse_client.calls import Call, Calls, Result

DEFAULTS: dict[str, Any] = {
    "URL": "http://127.0.0.1:8888",
    "KEY": "",  # --http-secret
    "TIMEOUT": 2.0,  # seconds for one attempt
    # Seconds for all attempts of one call: how long a request may wait for a server that is away. A task can
    # wait longer.
    "PATIENCE": 3.0,
    "BACKEND": "cyclone_sse_client.django.backends.HttpBackend",
    "MAY_SUBSCRIBE": None,  # a function, or its dotted name: views.may_subscribe
    "EXPIRES": 3600,  # seconds after which a stream ends and its client is asked about again
    "JWT_SECRET": None,  # --jwt-secret, for {% sse_token %}
    "CHANNELS": None,  # a function of the request, or its dotted name: the channels of {% sse_token %}
    "DISCONNECT_AT_LOGOUT": True,
}


class Backend(Protocol):
    """An object that sends calls: a ``Publisher``, or a recorder."""

    def call(self, call: Call[Result]) -> Result:
        """Send the call and return its result."""


def get(name: str) -> Any:
    """One value of ``CYCLONE_SSE``, or its default."""
    given = getattr(settings, "CYCLONE_SSE", {})
    unknown = given.keys() - DEFAULTS.keys()
    if unknown:
        # Without this a typo in KEY would be noticed as a refusal in production.
        raise ImproperlyConfigured(f"unknown name in CYCLONE_SSE: {min(unknown)!r}; known: {', '.join(DEFAULTS)}")
    return given.get(name, DEFAULTS[name])


def function(name: str) -> Callable[..., Any]:
    """The function in this setting, which may be its dotted name."""
    value = get(name)
    if value is None:
        raise ImproperlyConfigured(f"CYCLONE_SSE has no {name}: name a function")
    found: Callable[..., Any] = import_string(value) if isinstance(value, str) else value
    return found


@functools.cache
def calls() -> Calls:
    """The calls, with the key and with Django's JSON encoder."""
    return Calls(get("KEY"), functools.partial(json.dumps, cls=DjangoJSONEncoder))


@functools.cache
def backend() -> Backend:
    """The backend of this process, with its persistent connections."""
    made: Backend = import_string(get("BACKEND"))()
    return made


def _forget(*, setting: str, **_: object) -> None:
    """Clear the caches when a test changes the setting with ``override_settings``."""
    if setting == "CYCLONE_SSE":
        calls.cache_clear()
        backend.cache_clear()


setting_changed.connect(_forget)

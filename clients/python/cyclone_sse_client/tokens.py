"""JSON Web Tokens (RFC 7519, HS256) for browsers, with the standard library only."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterable
from typing import Any

SHORTEST_SECRET = 32  # bytes; the server refuses to start with less


def make_token(
    secret: str,
    subscribe: str | Iterable[str] = (),
    *,
    user: object = None,
    seconds: float = 3600,
    publish: str | Iterable[str] = (),
    info: Any = None,
    **claims: Any,
) -> str:
    """Sign a token that lets its bearer subscribe to these channels or globs until ``seconds`` have passed.

    ``secret`` is the server's ``--jwt-secret``. ``user`` is the user's id in ``POST /disconnect`` and in
    presence; ``info`` is shown with this user to other members of channels with presence; ``claims`` are
    further claims, such as ``iss``.
    """
    if len(secret.encode()) < SHORTEST_SECRET:
        raise ValueError(f"the secret must have at least {SHORTEST_SECRET} bytes")
    payload: dict[str, Any] = {"exp": int(time.time() + seconds), "subscribe": _names(subscribe), **claims}
    if user is not None:
        payload["sub"] = str(user)
    if info is not None:
        payload["info"] = info
    if allowed := _names(publish):
        payload["publish"] = allowed
    signed = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(payload)}"
    return f"{signed}.{_base64(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest())}"


def _names(channels: str | Iterable[str]) -> list[str]:
    # Without this, a text would become one channel for each of its letters.
    return [channels] if isinstance(channels, str) else list(channels)


def _part(value: object) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

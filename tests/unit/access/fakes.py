"""A request as the rules see it, and tokens whose keys have to be fetched."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred

from cyclone_sse.access.grant import Grant
from cyclone_sse.access.tokens import NoKeys, Tokens
from tests.unit.fakes import headers_of


def request(access_token: str | None = None, public_host: str | None = None, **headers: str) -> Any:
    """A request with these headers; `_` in a name stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return SimpleNamespace(
        headers=headers_of(named),
        remote_ip="192.0.2.7",
        access_token=access_token,
        public_host=named.get("Host", "") if public_host is None else public_host,
        public_scheme="http",
        is_host_proxied=bool(public_host),
    )


class FakeTokens:
    """Tokens whose keys come from a URL."""

    can_fetch = True

    def __init__(self, keys: Tokens) -> None:
        self.waiting: Deferred[None] | None = Deferred()
        self._keys = keys

    def missing_key(self, given: str) -> Deferred[None] | None:
        return self.waiting

    def grant(self, given: str) -> Grant:
        if self.waiting is not None:
            raise NoKeys
        return self._keys.grant(given)

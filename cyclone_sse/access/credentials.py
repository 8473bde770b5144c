"""The credentials of a request: tokens, and the origin of the page that sent it."""

from __future__ import annotations

from collections.abc import Container
from ipaddress import ip_address
from typing import Protocol

from cyclone_sse.errors import Refusal


class RequestHeaders(Protocol):
    """The headers of a request, by name; names are in their canonical form."""

    def exact(self, name: str, default: str) -> str:
        """The value of a header, or the default."""

    def __contains__(self, name: object) -> bool: ...

    def __getitem__(self, name: str) -> str: ...


class Caller(Protocol):
    """The parts of a client's request that are sent to ``--auth-url``."""

    @property
    def headers(self) -> RequestHeaders:
        """Its headers."""

    @property
    def remote_ip(self) -> str:
        """The client's address."""

    @property
    def public_host(self) -> str:
        """Host and port in the URL that the client used; a trusted proxy may have sent them."""

    @property
    def public_scheme(self) -> str:
        """``http`` or ``https``, likewise."""


class AccessRequest(Caller, Protocol):
    """The parts of a request that the rules need."""

    @property
    def access_token(self) -> str | None:
        """The query parameter of this name, which is removed from the query itself."""

    @property
    def is_host_proxied(self) -> bool:
        """Whether a trusted proxy has sent ``public_host``."""


def bearer_token(request: AccessRequest) -> str | None:
    """The token or key in ``Authorization: Bearer``."""
    scheme, _, token = request.headers.exact("Authorization", "").partition(" ")
    return token.strip(" \t") or None if scheme.lower() == "bearer" else None


def subscriber_tokens(request: AccessRequest, cookie: str) -> list[str]:
    """The tokens of a subscription: from the header, the cookie of this name, and the query."""
    found = (bearer_token(request), _cookie(request, cookie), request.access_token)
    return [token for token in found if token]


def _cookie(request: AccessRequest, name: str) -> str | None:
    """The value of a cookie. Without this parser, http.cookies would drop all cookies if one is malformed."""
    for pair in request.headers.exact("Cookie", "").split(";"):
        key, _, value = pair.partition("=")
        if key.strip(" \t") == name:
            return value.strip(" \t").strip('"') or None
    return None


def check_origin(request: AccessRequest, allowed: Container[str]) -> None:
    """Refuse a POST that a page of another site makes the browser send. Raises Refusal.

    A browser sends a form to any server without a preflight (Fetch, "CORS-safelisted"), also to one on the
    user's own machine; only ``Origin`` names the page. A name in ``Host`` proves nothing: any site can let
    its own name resolve to this server (DNS rebinding). allowed: other origins that may publish.
    """
    origin = request.headers.exact("Origin", "").lower()
    if not origin or (origin != "*" and origin in allowed):
        return
    host = request.headers.exact("Host", "")
    own = [host] if _is_certain(host) else []
    if request.is_host_proxied:
        own.append(request.public_host)
    authority = _authority(origin.partition("://")[2])
    if not authority or authority not in map(_authority, own):
        reason = f"a page of {origin} may not publish here: allow it with --cors-origin, or set a key"
        raise Refusal(403, reason)


def _is_certain(host: str) -> bool:
    """Whether a page with this host must be one of this server: an address, or localhost."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name.lower().removesuffix(".") == "localhost" or name.lower().endswith(".localhost"):
        return True
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _authority(host: str) -> str:
    """Host and port in lower case, without the scheme's own port."""
    return host.lower().removesuffix(":80").removesuffix(":443")

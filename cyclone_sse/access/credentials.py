"""What a request shows of its sender: tokens, and the page that it comes from."""

from __future__ import annotations

from collections.abc import Container, Mapping
from ipaddress import ip_address
from typing import Protocol

from cyclone_sse.errors import Refusal


class Caller(Protocol):
    """What is to be known of a client's request."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers."""

    @property
    def remote_ip(self) -> str:
        """The client's address."""

    @property
    def public_host(self) -> str:
        """Host and port in the URL that the client used, maybe as a trusted proxy says."""

    @property
    def public_scheme(self) -> str:
        """``http`` or ``https``, likewise."""


class AccessRequest(Caller, Protocol):
    """What is to be known of a request in order to decide about it."""

    @property
    def access_token(self) -> str | None:
        """The query parameter of this name; handlers see it in no other place."""

    @property
    def is_host_proxied(self) -> bool:
        """Whether a trusted proxy says what ``public_host`` is."""


def bearer_token(request: AccessRequest) -> str | None:
    """The token or key in ``Authorization: Bearer``."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip(" \t") or None if scheme.lower() == "bearer" else None


def subscriber_tokens(request: AccessRequest, cookie: str) -> list[str]:
    """The tokens that come with a subscription: in the header, the cookie of this name, the query."""
    found = (bearer_token(request), _cookie(request, cookie), request.access_token)
    return [token for token in found if token]


def _cookie(request: AccessRequest, name: str) -> str | None:
    """A cookie's value. By hand: http.cookies drops all of them when one is not to its taste."""
    for pair in request.headers.get("Cookie", "").split(";"):
        key, _, value = pair.partition("=")
        if key.strip(" \t") == name:
            return value.strip(" \t").strip('"') or None
    return None


def check_origin(request: AccessRequest, allowed: Container[str]) -> None:
    """Refuse what a page of another site makes its reader's browser post. Raises Refusal.

    A browser sends a form anywhere without asking (Fetch, "CORS-safelisted"), also to a server on the
    reader's own machine; only ``Origin`` shows it. A name in ``Host`` proves nothing: any site can let
    its own name lead to this server (DNS rebinding). allowed: origins that may.
    """
    origin = request.headers.get("Origin", "").lower()
    if not origin or (origin != "*" and origin in allowed):
        return
    host = request.headers.get("Host", "")
    own = [host] if _is_certain(host) else []
    if request.is_host_proxied:
        own.append(request.public_host)
    authority = _authority(origin.partition("://")[2])
    if not authority or authority not in map(_authority, own):
        reason = f"a page of {origin} may not publish here: allow it with --cors-origin, or set a key"
        raise Refusal(403, reason)


def _is_certain(host: str) -> bool:
    """Whether a page with this host can only be of this server: an address, or localhost."""
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

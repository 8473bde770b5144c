"""The rules that the options give: who may subscribe, who may publish. One question for each request.

Without ``--jwt-secret``, ``--jwt-keys`` or ``--auth-url`` there are none, and every channel is public. With
them a channel is heard by whoever ``--public``, a token or the application lets hear it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from cyclone_sse.access.auth_url import AuthUrl, Caller
from cyclone_sse.access.grant import OPERATOR, Grant, Names
from cyclone_sse.access.tokens import BadToken, Tokens
from cyclone_sse.errors import Refusal
from cyclone_sse.options import with_defaults
from cyclone_sse.patterns import check_name

UNAUTHORIZED = {"WWW-Authenticate": 'Bearer error="invalid_token"'}  # RFC 6750 3
FORBIDDEN = {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}


class Request(Caller):
    """What is to be known of a request."""

    access_token: str | None  # the query parameter of this name; handlers see it in no other place


class Rules:
    """Who may hear and say what.

    settings: the options; missing ones have their defaults. is_pattern: whether a channel's name stands for
    many with this broker. open_patterns: whether a stranger may ask for such. Raises ValueError, in one line,
    where a key will not do.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        reactor: Any = None,
        is_pattern: Callable[[str], bool] = lambda channel: False,
        open_patterns: bool = True,
    ) -> None:
        self._is_pattern = is_pattern
        self._open_patterns = open_patterns
        self._settings = settings = with_defaults(settings)
        self._public = Names(settings["public"])
        has_keys = settings["jwt-secret"] or settings["jwt-keys"]
        self._tokens = Tokens(settings) if has_keys else None
        self._auth_url: AuthUrl | None = None
        if settings["auth-url"]:
            self._auth_url = AuthUrl(settings["auth-url"], settings["auth-concurrency"], reactor=reactor)

    @property
    def restrict(self) -> bool:
        """Whether there is a rule at all; without one every channel is public."""
        return self._tokens is not None or self._auth_url is not None

    @property
    def know_operators(self) -> bool:
        """Whether there is a key or a token by which to know who may publish."""
        return self._tokens is not None or bool(self._settings["http-secret"])

    def reload(self) -> None:
        """Read the keys anew. Raises ValueError, and the present ones stay."""
        if self._tokens is not None:
            self._tokens.reload()

    def check_names(self, channels: Sequence[str]) -> None:
        """Refuse more channels or patterns than one stream may have, and names that are too long.

        Raises Refusal.
        """
        settings = self._settings
        if len(channels) > settings["max-channels"]:
            raise Refusal(400, f"more than {settings['max-channels']} channels for one stream")
        try:
            for name in channels:
                check_name(name)
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        patterns = [name for name in channels if self._is_pattern(name)]
        if len(patterns) > settings["max-patterns"]:
            raise Refusal(400, f"more than {settings['max-patterns']} patterns for one stream")
        if patterns and not (self._open_patterns or settings["patterns"] or self.restrict):
            raise Refusal(403, f"{patterns[0]!r} is a pattern, and these are not allowed (--patterns=1)")

    def subscriber(self, request: Request, channels: Sequence[str]) -> Grant | Deferred[Grant] | None:
        """What the client may hear of these channels: a grant whose ``subscribe`` names them one by one.

        None: everything, there are no rules. Raises Refusal, or the Deferred fails with it.
        """
        if not self.restrict:
            return None
        private = [name for name in channels if not self._public.hold(name, self._is_pattern(name))]
        token = self._subscriber_token(request)
        if not private:
            return Grant(self._user(token), tuple(channels))
        if token is not None or self._auth_url is None:
            return self._by_token(token, channels, private)
        answer = self._auth_url.ask(request, private)
        return answer.addCallback(self._by_answer, channels, private)

    def are_public(self, channels: Sequence[str]) -> bool:
        """Whether every client may receive all of these channels."""
        if not self.restrict:
            return True
        return all(self._public.hold(name, self._is_pattern(name)) for name in channels)

    def publisher(self, request: Request, key: str, secret: str) -> Grant:
        """What the publisher may say. Raises Refusal.

        key: the one in the body, or empty. secret: the one that is wanted, empty if none is.
        """
        bearer = _bearer(request)
        # A header's bytes have become text as latin-1; what a publisher meant is UTF-8.
        given = (key.encode(errors="replace"), (bearer or "").encode("latin-1"))
        if secret and any(hmac.compare_digest(one, secret.encode()) for one in given):  # in constant time
            return OPERATOR
        if self._tokens is not None and bearer is not None:
            return self._read(bearer)
        if secret or self._tokens is not None:
            raise Refusal(401, "wrong key" if secret else "publishing needs a token", UNAUTHORIZED)
        self._check_origin(request)
        return OPERATOR

    def _by_token(self, token: str | None, channels: Sequence[str], private: Sequence[str]) -> Grant:
        if token is None:
            raise Refusal(401, f"{private[0]!r} needs a token", UNAUTHORIZED)
        grant = self._read(token)
        for name in private:
            if not grant.may_subscribe(name, self._is_pattern(name)):
                raise Refusal(403, f"the token does not allow {name!r}", FORBIDDEN)
        return Grant(grant.user, tuple(channels), (), grant.expires)

    def _by_answer(self, grant: Grant, channels: Sequence[str], private: Sequence[str]) -> Grant:
        denied = {name for name in private if not grant.may_subscribe(name, self._is_pattern(name))}
        left = tuple(name for name in channels if name not in denied)
        if not left:
            raise Refusal(403, f"the application does not allow {private[0]!r}")
        return Grant(grant.user, left, (), grant.expires)

    def _user(self, token: str | None) -> str | None:
        """Who it is, if a token says so; a bad one keeps nobody from what is public."""
        if token is None or self._tokens is None:
            return None
        try:
            return self._tokens.grant(token).user
        except BadToken:
            return None

    def _read(self, token: str) -> Grant:
        assert self._tokens is not None
        try:
            return self._tokens.grant(token)
        except BadToken as error:
            raise Refusal(401, str(error), UNAUTHORIZED) from None

    def _subscriber_token(self, request: Request) -> str | None:
        """The token in the header, else in the cookie, else in the query."""
        if self._tokens is None:
            return None
        return _bearer(request) or _cookie(request, self._settings["jwt-cookie"]) or request.access_token

    def _check_origin(self, request: Request) -> None:
        """Refuse what a page of another site makes its reader's browser post.

        A browser sends a form anywhere without asking (Fetch, "CORS-safelisted"), also to a server on the
        reader's own machine; only ``Origin`` tells.
        """
        origin = request.headers.get("Origin", "").lower()
        if not origin or (origin != "*" and origin in self._settings["cors-origin"]):
            return
        own = [request.headers.get("Host", "")]
        if self._settings["trust-proxy"]:
            own.append(request.headers.get("X-Forwarded-Host", "").rpartition(",")[2].strip())
        authority = _authority(origin.partition("://")[2])
        if not authority or authority not in map(_authority, own):
            reason = f"a page of {origin} may not publish here: allow it with --cors-origin, or set a key"
            raise Refusal(403, reason)


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _cookie(request: Request, name: str) -> str | None:
    """A cookie's value. By hand: http.cookies drops all of them when one is not to its taste."""
    for pair in request.headers.get("Cookie", "").split(";"):
        key, _, value = pair.partition("=")
        if key.strip() == name:
            return value.strip().strip('"') or None
    return None


def _authority(host: str) -> str:
    """Host and port in lower case; the scheme's own port is not said."""
    return host.lower().removesuffix(":80").removesuffix(":443")


def rules_of(application: Any) -> Rules:
    """The rules of an application, also of a custom one that knows nothing of them: those of its broker's
    settings. Raises ValueError, in one line, where a key will not do."""
    rules = getattr(application, "rules", None)
    if not isinstance(rules, Rules):
        broker = application.broker
        rules = application.rules = Rules(
            broker.settings, broker.reactor, broker.is_pattern, broker.open_patterns
        )
    return rules

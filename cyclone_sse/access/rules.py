"""The rules that the options define: which clients may subscribe, and which may publish.

Without ``--jwt-secret``, ``--jwt-secret-file``, ``--jwt-keys`` or ``--auth-url`` there are no rules, and
every channel is public. With one of them a client may subscribe to a channel if ``--public``, a token or the
application allows it.
"""

from __future__ import annotations

import hmac
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime

from cyclone_sse.access.auth_url import AuthFigures, AuthUrl
from cyclone_sse.access.credentials import AccessRequest, bearer_token, check_origin, subscriber_tokens
from cyclone_sse.access.grant import PUBLISH_EVERYWHERE, Grant, Names
from cyclone_sse.access.secret_file import read_secrets
from cyclone_sse.access.tokens import BadToken, NoKeys, NotAToken, Tokens
from cyclone_sse.errors import Refusal, call_each
from cyclone_sse.options import has_token_rule, with_defaults
from cyclone_sse.patterns import check_names

UNAUTHORIZED = {"WWW-Authenticate": 'Bearer error="invalid_token"'}  # RFC 6750 3
INSUFFICIENT_SCOPE = {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}

P = ParamSpec("P")
T = TypeVar("T")


class Rules:
    """The rights of clients and publishers.

    settings: the options; missing ones have their defaults. is_pattern: whether a name is a pattern with this
    broker. open_patterns: whether any client may subscribe to patterns. Raises ValueError, in one line, if a
    key cannot be used.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        reactor: IReactorTime | None = None,
        is_pattern: Callable[[str], bool] = lambda channel: False,
        open_patterns: bool = True,
    ) -> None:
        self._is_pattern = is_pattern
        self._open_patterns = open_patterns
        self._settings = settings = with_defaults(settings)
        self._public = Names(settings["public"])
        self._secrets: tuple[str, ...] = ()
        self._tokens = Tokens(settings, reactor) if has_token_rule(settings) else None
        self._auth_url: AuthUrl | None = None
        if settings["auth-url"]:
            self._auth_url = AuthUrl(
                settings["auth-url"],
                settings["auth-concurrency"],
                host=settings["auth-host"],
                reactor=reactor,
            )
        # Whether there is a rule at all; without one every channel is public.
        self.restrict = self._tokens is not None or self._auth_url is not None
        # Whether the keys of tokens have a URL, from which one may not be fetched yet: see `when_keys_known`.
        self.may_miss_keys = self._tokens is not None and self._tokens.can_fetch
        self._read_secrets()
        # Whether channels are private, and publishers have neither a key nor a token.
        self.refuse_publishers = self.restrict and not (self.know_publishers or settings["http-publish"])

    @property
    def know_publishers(self) -> bool:
        """Whether there is a key or a token that identifies publishers."""
        return self._tokens is not None or bool(self._secrets) or bool(self._settings["http-secret"])

    @property
    def auth_figures(self) -> AuthFigures | None:
        """The requests to the application so far; None without ``--auth-url``."""
        return None if self._auth_url is None else self._auth_url.figures

    def start(self) -> None:
        """Fetch keys that have a URL, now and from time to time."""
        if self._tokens is not None:
            self._tokens.start()

    def stop(self) -> None:
        """Stop fetching keys."""
        if self._tokens is not None:
            self._tokens.stop()

    def reload(self) -> None:
        """Read keys and secrets again. Raises ValueError for invalid ones, and keeps the old ones."""
        call_each([self._read_secrets, *([self._tokens.reload] if self._tokens else [])])

    def check_names(self, channels: Sequence[str]) -> None:
        """Refuse more channels or patterns than one stream may have, and names that are too long.

        Raises Refusal.
        """
        settings = self._settings
        if len(channels) > settings["max-channels"]:
            raise Refusal(
                400, f"more than {settings['max-channels']} channels for one stream (--max-channels)"
            )
        try:
            check_names(channels)
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        if sum(map(self._is_pattern, channels)) > settings["max-patterns"]:
            raise Refusal(
                400, f"more than {settings['max-patterns']} patterns for one stream (--max-patterns)"
            )

    def when_keys_known(
        self, request: AccessRequest, work: Callable[P, T | Deferred[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T | Deferred[T]:
        """The result of this work, which starts when the keys of the request's tokens are known.

        At once, unless one is missing and must be fetched from its URL. Callers of ``publisher`` must use
        this; ``subscriber`` does so itself.
        """
        if self._tokens is not None and self.may_miss_keys:
            tokens = subscriber_tokens(request, self._settings["jwt-cookie"])
            waiting = [d for token in tokens if (d := self._tokens.missing_key(token)) is not None]
            if waiting:
                known: Deferred[Any] = DeferredList(waiting)
                return known.addCallback(lambda _: work(*args, **kwargs))
        return work(*args, **kwargs)

    def subscriber(self, request: AccessRequest, channels: Sequence[str]) -> Grant | Deferred[Grant] | None:
        """The client's right to these channels: a grant whose ``subscribe`` lists them.

        None: there are no rules, and everything is allowed. Raises Refusal, or the Deferred fails with a
        Refusal.
        """
        if not self.restrict:
            if not self._open_patterns:
                self._refuse_patterns(channels, "these are not allowed")
            return None
        return self.when_keys_known(request, self._subscriber, request, channels)

    def _subscriber(self, request: AccessRequest, channels: Sequence[str]) -> Grant | Deferred[Grant]:
        private = [name for name in channels if not self._public.allows(name, self._is_pattern(name))]
        grant = self._token_grant(request, bool(private))
        if not private:
            # The token only identifies the user: the right to public channels does not expire.
            known = grant or Grant()
            return Grant(known.user, tuple(channels), info=known.info)
        if grant is not None:
            return self._by_token(grant, channels, private)
        if self._auth_url is None:
            how = "Authorization: Bearer ..., or ?access_token=..."
            raise Refusal(401, f"{private[0]!r} needs a token: {how}", UNAUTHORIZED)
        # Without this, an application that compares the beginnings of names, as most do, would allow `room-*`
        # to a member of one room, and `*` to every user.
        self._refuse_patterns(private, "--auth-url is not asked about these")
        return self._auth_url.ask(request, private).addCallback(self._by_answer, channels, private)

    def _refuse_patterns(self, channels: Sequence[str], why: str) -> None:
        """Refuse patterns, which no rule allows, unless --patterns=1 does. Raises Refusal."""
        if not self._settings["patterns"] and (found := next(filter(self._is_pattern, channels), None)):
            raise Refusal(403, f"{found!r} is a pattern, and {why} (--patterns=1)")

    def are_public(self, channels: Sequence[str]) -> bool:
        """Whether every client may receive all of these channels."""
        if not self.restrict:
            return True
        return all(self._public.allows(name, self._is_pattern(name)) for name in channels)

    def publisher(self, request: AccessRequest, key: str, secret: str) -> Grant:
        """The publisher's right from the header, or from the key in its body, which may be empty.

        secret: a key that is accepted in addition to those of ``--http-secret-file``; empty: none. Raises
        Refusal.
        """
        return self.publisher_by_header(request, secret) or self.publisher_by_key(request, key, secret)

    def publisher_by_header(self, request: AccessRequest, secret: str) -> Grant | None:
        """The publisher's right from the header, before the body is read; None: a key in the body decides.

        Raises Refusal.
        """
        bearer = bearer_token(request)
        has_key = bool(secret or self._secrets)
        # The bytes of a header have been decoded as latin-1; publishers send UTF-8.
        if bearer is not None and self.is_key(bearer.encode("latin-1", "replace"), secret):
            return PUBLISH_EVERYWHERE
        if self._tokens is not None and bearer is not None:
            return self._read(bearer, or_key=has_key)
        if has_key:
            return None
        if self._tokens is not None:
            raise Refusal(401, "publishing needs a token: Authorization: Bearer ...", UNAUTHORIZED)
        if self.refuse_publishers:
            raise Refusal(403, "channels are private here: publishing needs a key (--http-secret) or a token")
        check_origin(request, self._settings["cors-origin"])
        return PUBLISH_EVERYWHERE

    def publisher_by_key(self, request: AccessRequest, key: str, secret: str) -> Grant:
        """The right of a publisher whose header gives none, and whose body has this key, or no key.

        Raises Refusal.
        """
        if self.is_key(key.encode(errors="replace"), secret):
            return PUBLISH_EVERYWHERE
        is_wrong = bool(key or bearer_token(request))
        reason = "wrong key" if is_wrong else "the key is missing: send it as Authorization: Bearer ..."
        raise Refusal(401, reason, UNAUTHORIZED)

    def is_key(self, key: bytes, secret: str) -> bool:
        """Whether this is one of the keys."""
        secrets = (*([secret] if secret else []), *self._secrets)
        # Without constant time, a publisher could guess a key byte by byte.
        return any(hmac.compare_digest(key, known.encode()) for known in secrets)

    def publisher_key(self) -> str | None:
        """The first publishing key, by which other servers recognise this one; None if there is none."""
        return self._settings["http-secret"] or next(iter(self._secrets), None)

    def _by_token(self, grant: Grant, channels: Sequence[str], private: Sequence[str]) -> Grant:
        for name in private:
            if not grant.may_subscribe(name, self._is_pattern(name)):
                raise Refusal(403, f"the token does not allow {name!r}", INSUFFICIENT_SCOPE)
        return Grant(grant.user, tuple(channels), (), grant.expires, grant.info)

    def _by_answer(self, grant: Grant, channels: Sequence[str], private: Sequence[str]) -> Grant:
        denied = {name for name in private if not grant.may_subscribe(name, self._is_pattern(name))}
        left = tuple(name for name in channels if name not in denied)
        if not left:
            raise Refusal(403, f"the application does not allow {private[0]!r}")
        return Grant(grant.user, left, (), grant.expires, grant.info)

    def _token_grant(self, request: AccessRequest, needed: bool) -> Grant | None:
        """The grant of the request's token; None if there is no token.

        The first token counts. If it is invalid, the client is refused, but only if it needs a right and
        there is no application to ask: a token that is not meant for this server may be the application's
        own.
        """
        if self._tokens is None:
            return None
        tokens = subscriber_tokens(request, self._settings["jwt-cookie"])
        if self._auth_url is None and needed:
            return self._read(tokens[0]) if tokens else None
        for token in tokens if self._auth_url is not None else tokens[:1]:
            try:
                return self._tokens.grant(token)
            except (BadToken, NoKeys):
                pass
        return None

    def _read(self, token: str, or_key: bool = False) -> Grant:
        """The grant of the token. or_key: a key would also do. Raises Refusal."""
        assert self._tokens is not None
        try:
            return self._tokens.grant(token)
        except BadToken as error:
            is_neither = or_key and isinstance(error, NotAToken)
            reason = "neither a key nor a valid token" if is_neither else str(error)
            raise Refusal(401, reason, UNAUTHORIZED) from None
        except NoKeys:
            after = str(random.randint(5, 15))
            raise Refusal(503, "the keys of tokens cannot be read now", {"Retry-After": after}) from None

    def _read_secrets(self) -> None:
        path = self._settings["http-secret-file"]
        if path:
            self._secrets = read_secrets("http-secret-file", path)


class RuledBroker(Protocol):
    """A broker, as far as rules depend on it."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All options."""

    @property
    def reactor(self) -> Any:
        """The clock and the network."""

    @property
    def open_patterns(self) -> bool:
        """Whether any client may subscribe to patterns."""

    def is_pattern(self, channel: str) -> bool:
        """Whether this name stands for many channels."""


def make_rules(broker: RuledBroker) -> Rules:
    """Make the rules from a broker's options. Raises ValueError, in one line, if a key cannot be used."""
    return Rules(broker.settings, broker.reactor, broker.is_pattern, broker.open_patterns)


def rules_of(application: Any) -> Rules:
    """The rules of an application that has some."""
    rules: Rules = application.rules
    return rules


def has_rules(application: Any) -> bool:
    """Whether the application has rules; a custom application may have none."""
    return isinstance(getattr(application, "rules", None), Rules)

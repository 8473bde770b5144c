"""Grants from JSON Web Tokens (RFC 7519), read by PyJWT under the rules of RFC 8725.

The type of the key determines the algorithms, and never the token (RFC 8725 3.1): so ``none`` is not
accepted, and a public key is never used as a secret. Headers that point to keys (``jku``, ``x5u``, ``jwk``)
are ignored; ``kid`` only chooses among the keys of the options (3.10). A check costs 50 to 200 us. No part of
a token is written to a log or an answer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import jwt
from jwt.types import Options
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from cyclone_sse.access.grant import MAX_SECONDS, Grant, compact_info, user_name
from cyclone_sse.access.key_url import KeyUrl
from cyclone_sse.access.keys import MIN_SECRET, SigningKey, read_keys, secret_keys
from cyclone_sse.access.secret_file import read_secrets
from cyclone_sse.values import is_url

LEEWAY = 30  # seconds by which clocks may differ
MAX_TOKEN = 8192  # characters; longer ones do not fit into a cookie, and hardly into a header
_TYPES = ("JWT", "AT+JWT")  # RFC 8725 3.11: a token of another kind is not for this server
_OPTIONS: Options = {"require": ["exp"], "verify_sub": False, "verify_jti": False}


class BadToken(ValueError):
    """The token is invalid; the text has the reason, and nothing of the token."""


class NotAToken(BadToken):
    """The text cannot be read as a token; it may be a key."""


class NoKeys(Exception):
    """There is no key yet that could verify a token: their URL has not answered."""


class Tokens:
    """Reads tokens with the keys that the options name. Raises ValueError if a key cannot be used."""

    def __init__(self, settings: Mapping[str, Any], reactor: IReactorTime | None = None) -> None:
        self._settings = settings
        self._issuer: str | None = settings["jwt-issuer"]
        self._audience: str | None = settings["jwt-audience"]
        self._own_keys: Sequence[SigningKey] = ()
        keys = settings["jwt-keys"]
        self._key_url = KeyUrl(keys, reactor) if is_url(keys) else None
        self.reload()

    @property
    def can_fetch(self) -> bool:
        """Whether keys have a URL."""
        return self._key_url is not None

    def start(self) -> None:
        """Fetch keys that have a URL, now and from time to time."""
        if self._key_url is not None:
            self._key_url.start()

    def stop(self) -> None:
        """Stop fetching keys."""
        if self._key_url is not None:
            self._key_url.stop()

    def reload(self) -> None:
        """Read the files of keys and secrets again, and fetch keys that have a URL.

        Raises ValueError, and the present keys stay.
        """
        if self._key_url is not None:
            self._key_url.reload()
        settings = self._settings
        secrets = [settings["jwt-secret"]] if settings["jwt-secret"] else []
        if settings["jwt-secret-file"]:
            secrets += read_secrets("jwt-secret-file", settings["jwt-secret-file"], MIN_SECRET)
        keys = secret_keys(secrets)
        if settings["jwt-keys"] and self._key_url is None:
            keys += read_keys(settings["jwt-keys"])
        self._own_keys = keys

    def missing_key(self, token: str) -> Deferred[None] | None:
        """A Deferred that fires after an attempt to fetch the key of this token from its URL.

        None: the key is known, or cannot be fetched now.
        """
        if self._key_url is None or len(token) > MAX_TOKEN:
            return None
        try:
            if self._keys_for(jwt.get_unverified_header(token)):
                return None
        except (BadToken, jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return None
        return self._key_url.refresh()

    def grant(self, token: str) -> Grant:
        """The rights of the token's bearer. Raises BadToken or NoKeys."""
        if len(token) > MAX_TOKEN:
            raise BadToken("the token is too long")
        if not self._own_keys and self._key_url is not None and not self._key_url.keys:
            raise NoKeys
        try:
            return _grant(self._claims(token))
        except BadToken:
            raise
        except jwt.ExpiredSignatureError:
            raise BadToken("the token has expired") from None
        except jwt.ImmatureSignatureError:
            raise BadToken("the token is not valid yet") from None
        except jwt.MissingRequiredClaimError as error:
            raise BadToken(f"the token has no {error.claim}") from None
        except jwt.InvalidIssuerError:
            raise BadToken("the token is of another issuer (iss)") from None
        except jwt.InvalidAudienceError:
            raise BadToken("the token is for another audience (aud)") from None
        except jwt.InvalidIssuedAtError:
            raise BadToken("iat is not a number") from None
        except jwt.InvalidSignatureError:
            raise BadToken("the token is not valid: it was signed with another key") from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            # PyJWT raises PyJWTError for invalid tokens, and sometimes another error that it does not
            # foresee.
            raise _unreadable(token) from None

    def _claims(self, token: str) -> Mapping[str, Any]:
        keys = self._keys_for(jwt.get_unverified_header(token))
        if not keys:
            raise BadToken("no key fits the token")
        for key in keys[:-1]:
            try:
                return self._decode(token, key)
            except jwt.InvalidSignatureError:
                pass  # another of the secrets may have signed it
        return self._decode(token, keys[-1])

    def _decode(self, token: str, key: SigningKey) -> Mapping[str, Any]:
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key.material,
            algorithms=key.algorithms,
            issuer=self._issuer,
            audience=self._audience,
            leeway=LEEWAY,
            options=_OPTIONS,
        )
        return claims

    def _keys_for(self, header: Mapping[str, Any]) -> list[SigningKey]:
        """The secrets, or the one public key, that may have signed a token with this header."""
        kind = header.get("typ", "JWT")
        if not isinstance(kind, str) or kind.upper().removeprefix("APPLICATION/") not in _TYPES:
            raise BadToken("this is another kind of token")
        kid, algorithm = header.get("kid"), header.get("alg")
        fetched = self._key_url.keys if self._key_url is not None else ()
        fitting = [key for key in (*self._own_keys, *fetched) if algorithm in key.algorithms]
        if all(isinstance(key.material, bytes) for key in fitting):
            return fitting
        found = [key for key in fitting if key.kid == kid]
        if not found:  # then exactly one key must fit: one without a kid, or any for a token without a kid
            found = [key for key in fitting if None in (kid, key.kid)]
        return found if len(found) == 1 else []


def _grant(claims: Mapping[str, Any]) -> Grant:
    """The claims as a grant. Raises BadToken for a claim of the wrong type: without this, a text in
    place of a list would be read letter by letter."""
    _check_times(claims)
    now = time.time()
    try:
        expires = min(float(claims["exp"]), now + MAX_SECONDS)
    except OverflowError:  # hundreds of digits
        raise BadToken("exp is too large") from None
    if expires <= now:
        expires += LEEWAY  # the leeway applies to the end of the stream too
    try:
        user, info = user_name(claims.get("sub"), "sub"), compact_info(claims.get("info"))
    except ValueError as error:
        raise BadToken(str(error)) from None
    return Grant(user, _names(claims, "subscribe"), _names(claims, "publish"), expires, info)


def _check_times(claims: Mapping[str, Any]) -> None:
    for name in ("exp", "nbf"):
        if name in claims and type(claims[name]) not in (int, float):
            raise BadToken(f"{name} is not a number")


def _unreadable(token: str) -> BadToken:
    """The reason why PyJWT cannot read a token: for a time as text it has no error of its own."""
    try:
        _check_times(jwt.decode(token, options={"verify_signature": False}))
    except BadToken as error:
        return error
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        pass
    return NotAToken("the token is not valid")


def _names(claims: Mapping[str, Any], claim: str) -> tuple[str, ...]:
    names = claims.get(claim, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadToken(f"{claim} is not a list of names")
    return tuple(names)

"""Grants from JSON Web Tokens (RFC 7519), read by PyJWT under the rules of RFC 8725.

The algorithms are those of the key's kind and never the token's choice (RFC 8725 3.1): so ``none`` is none
of them, and a public key is never taken for a secret. Headers that point to keys (``jku``, ``x5u``,
``jwk``) are not looked at; ``kid`` only chooses among the keys of our own file (3.10). A check costs
50 to 200 us. Nothing of a token goes into a log or an answer.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from cyclone_sse.access.grant import Grant
from cyclone_sse.values import read_json

LEEWAY = 30  # seconds that clocks may differ
MAX_TOKEN = 8192  # characters; more fits into no cookie and hardly into a header
MIN_SECRET = 32  # bytes (RFC 7518 3.2, for HS256)
MIN_RSA = 2048  # bits (RFC 7518 3.3)

_HMAC = ("HS256", "HS384", "HS512")
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {
    "secp256r1": ("ES256",),
    "secp384r1": ("ES384",),
    "secp521r1": ("ES512",),
    "secp256k1": ("ES256K",),
}
_TYPES = ("JWT", "AT+JWT")  # RFC 8725 3.11: a token of another kind is not for us


class BadToken(ValueError):
    """The token will not do; the text says why, and nothing of what is in it."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key, and what it may be used with. kid: its name in a JWKS."""

    material: Any
    algorithms: tuple[str, ...]
    kid: str | None = None


class Tokens:
    """Reads tokens with the keys that the options name. Raises ValueError where these will not do."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._secret: str | None = settings["jwt-secret"]
        self._file: str | None = settings["jwt-keys"]
        self._issuer: str | None = settings["jwt-issuer"]
        self._audience: str | None = settings["jwt-audience"]
        self._keys: Sequence[Key] = ()
        self.reload()

    def reload(self) -> None:
        """Read the file of keys anew. Raises ValueError, and the present keys stay."""
        keys = [_secret_key(self._secret)] if self._secret else []
        if self._file:
            keys += _read_keys(self._file)
        self._keys = keys

    def grant(self, token: str) -> Grant:
        """What the token says that its bearer may do. Raises BadToken."""
        if len(token) > MAX_TOKEN:
            raise BadToken("the token is too long")
        try:
            header = jwt.get_unverified_header(token)
            key = self._key_for(header)
            claims = jwt.decode(
                token,
                key.material,
                algorithms=key.algorithms,
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY,
                options={"require": ["exp"]},
            )
        except BadToken:
            raise
        except jwt.ExpiredSignatureError:
            raise BadToken("the token has expired") from None
        except jwt.ImmatureSignatureError:
            raise BadToken("the token is not valid yet") from None
        except jwt.MissingRequiredClaimError as error:
            raise BadToken(f"the token has no {error.claim}") from None
        except jwt.InvalidIssuerError:
            raise BadToken("the token is of another issuer") from None
        except jwt.InvalidAudienceError:
            raise BadToken("the token is for another audience") from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            # What strangers can send is PyJWTError; the others are for what it does not foresee.
            raise BadToken("the token is not valid") from None
        return _grant(claims)

    def _key_for(self, header: Mapping[str, Any]) -> Key:
        kind = header.get("typ", "JWT")
        if not isinstance(kind, str) or kind.upper().removeprefix("APPLICATION/") not in _TYPES:
            raise BadToken("this is another kind of token")
        kid, algorithm = header.get("kid"), header.get("alg")
        found = [key for key in self._keys if algorithm in key.algorithms and key.kid in (None, kid)]
        if not found and kid is None:
            # Without a kid it can only be the one key that fits.
            found = [key for key in self._keys if algorithm in key.algorithms]
        if len(found) != 1:
            raise BadToken("no key fits the token")
        return found[0]


def _grant(claims: Mapping[str, Any]) -> Grant:
    """The claims as a grant. Raises BadToken where one is not what it should be: a text in place of a list
    would be read letter by letter."""
    for name in ("exp", "nbf"):
        if name in claims and type(claims[name]) not in (int, float):
            raise BadToken(f"{name} is not a number")
    try:
        expires = float(claims["exp"])
    except OverflowError:  # hundreds of digits
        raise BadToken("exp is too large") from None
    if expires <= time.time():
        expires += LEEWAY  # it was let in by the leeway, and stays as long
    return Grant(claims.get("sub"), _names(claims, "subscribe"), _names(claims, "publish"), expires)


def _names(claims: Mapping[str, Any], claim: str) -> tuple[str, ...]:
    names = claims.get(claim, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadToken(f"{claim} is not a list of names")
    return tuple(names)


def _secret_key(secret: str) -> Key:
    data = secret.encode()
    if len(data) < MIN_SECRET:
        raise ValueError(f"--jwt-secret: expected at least {MIN_SECRET} bytes")
    # PyJWT wants more for HS384 and HS512, and would say so at each token. 256 bits are out of reach.
    warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)
    return Key(data, _HMAC)


def _read_keys(path: str) -> list[Key]:
    try:
        data = Path(path).read_bytes()
        keys = _jwks(data) if data.lstrip().startswith(b"{") else [_pem(data)]
        if not keys:
            raise ValueError("there is no key for signatures in it")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"--jwt-keys={path}: {reason}") from None
    return keys


def _pem(data: bytes) -> Key:
    if b"PRIVATE KEY" in data:
        raise ValueError("this is a private key; its public half belongs here")
    try:
        material = load_pem_public_key(data)
    except Exception:  # whatever cryptography and OpenSSL have against it
        raise ValueError("expected a public key in PEM, or a JWKS") from None
    algorithms = _algorithms(material)
    if not algorithms:
        raise ValueError("a key of this kind signs no tokens")
    return Key(material, algorithms)


def _jwks(data: bytes) -> list[Key]:
    """The keys of a set (RFC 7517). One of a kind that we do not know is left out, as 5 says."""
    entries = read_json(data).get("keys")
    if not isinstance(entries, list):
        raise ValueError("expected a JWKS, with a list of keys")
    keys = [_jwk(entry) for entry in entries if isinstance(entry, dict)]
    kids = [key.kid for key in keys if key is not None and key.kid is not None]
    if len(set(kids)) < len(kids):
        raise ValueError("two keys have the same kid")
    return [key for key in keys if key is not None]


def _jwk(entry: dict[str, Any]) -> Key | None:
    if "d" in entry or entry.get("kty") == "oct":
        raise ValueError("there is a secret in it; only public keys belong here")
    if entry.get("use", "sig") != "sig":
        return None
    try:
        material = jwt.PyJWK(entry, "EdDSA" if entry.get("kty") == "OKP" else None).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    algorithms = _algorithms(material)
    if "alg" in entry:
        algorithms = tuple(name for name in algorithms if name == entry["alg"])
    kid = entry.get("kid")
    return Key(material, algorithms, kid if isinstance(kid, str) else None) if algorithms else None


def _algorithms(material: object) -> tuple[str, ...]:
    """What a public key may be used with. Raises ValueError if it is too short to be of use."""
    if isinstance(material, RSAPublicKey):
        if material.key_size < MIN_RSA:
            raise ValueError(f"an RSA key needs at least {MIN_RSA} bits")
        return _RSA
    if isinstance(material, EllipticCurvePublicKey):
        return _CURVES.get(material.curve.name, ())
    return ("EdDSA",) if isinstance(material, Ed25519PublicKey | Ed448PublicKey) else ()

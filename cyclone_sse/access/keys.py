"""The keys that verify the signatures of tokens: from secrets, a PEM file, or a JWKS (RFC 7517).

The type of a key determines its algorithms (RFC 8725 3.1), so that a public key is never used as a secret.
Raises ValueError, in one line, for a key that cannot be used. Plain functions on bytes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from cyclone_sse.strict_json import read_json

MIN_SECRET = 32  # bytes (RFC 7518 3.2, for HS256)
MIN_RSA = 2048  # bits (RFC 7518 3.3)
MAX_RSA = 8192  # bits: without a bound, each check with a foreign JWKS could cost seconds
MAX_KEYS = 100  # of one JWKS

_HMAC = ("HS256", "HS384", "HS512")
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {
    "secp256r1": ("ES256",),
    "secp384r1": ("ES384",),
    "secp521r1": ("ES512",),
    "secp256k1": ("ES256K",),
}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key with its algorithms. kid: its name in a JWKS."""

    material: Any
    algorithms: tuple[str, ...]
    kid: str | None = None


def secret_keys(secrets: Iterable[str]) -> list[SigningKey]:
    """A key for each secret."""
    # PyJWT warns at each token with HS384 or HS512 if the secret has only 256 bits, which are enough.
    warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)
    keys = [SigningKey(secret.encode(), _HMAC) for secret in secrets]
    if any(len(key.material) < MIN_SECRET for key in keys):
        raise ValueError(f"--jwt-secret: expected at least {MIN_SECRET} bytes")
    return keys


def read_keys(path: str) -> list[SigningKey]:
    """The public keys in a file."""
    try:
        data = Path(path).read_bytes()
        return jwks_keys(data) if data.lstrip().startswith(b"{") else [_pem_key(data)]
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"--jwt-keys={path}: {reason}") from None


def jwks_keys(data: bytes) -> list[SigningKey]:
    """The keys of a set. Keys of an unknown type are skipped, as RFC 7517 5 requires."""
    value = read_json(data)
    entries = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(entries, list):
        raise ValueError("expected a JWKS, with a list of keys")
    if len(entries) > MAX_KEYS:
        raise ValueError(f"there are more than {MAX_KEYS} keys in it")
    keys = [key for entry in entries if isinstance(entry, dict) and (key := _jwk(entry)) is not None]
    kids = [key.kid for key in keys if key.kid is not None]
    if len(set(kids)) < len(kids):
        raise ValueError("two keys have the same kid")
    if not keys:
        raise ValueError("there is no key for signatures in it")
    return keys


def _pem_key(data: bytes) -> SigningKey:
    if b"PRIVATE KEY" in data:
        raise ValueError("this is a private key; its public half belongs here")
    try:
        material = load_pem_public_key(data)
    except Exception:  # cryptography and OpenSSL raise errors of many kinds
        raise ValueError("expected a public key in PEM, or a JWKS") from None
    algorithms = _algorithms(material)
    if not algorithms:
        raise ValueError("a key of this kind cannot sign tokens")
    return SigningKey(material, algorithms)


def _jwk(entry: dict[str, Any]) -> SigningKey | None:
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
    return SigningKey(material, algorithms, kid if isinstance(kid, str) else None) if algorithms else None


def _algorithms(material: object) -> tuple[str, ...]:
    """The algorithms of a public key."""
    if isinstance(material, RSAPublicKey):
        if not MIN_RSA <= material.key_size <= MAX_RSA:
            raise ValueError(f"an RSA key needs at least {MIN_RSA} bits, and at most {MAX_RSA}")
        return _RSA
    if isinstance(material, EllipticCurvePublicKey):
        return _CURVES.get(material.curve.name, ())
    return ("EdDSA",) if isinstance(material, Ed25519PublicKey | Ed448PublicKey) else ()

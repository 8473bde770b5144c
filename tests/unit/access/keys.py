"""Keys and tokens for the tests: made once, for every kind of key."""

from __future__ import annotations

import base64
import json
import time
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

SECRET = "a secret of these tests' own: as long as a hash of SHA-512, 64 bytes and more"


@cache
def private(kind: str) -> Any:
    """A private key of this kind."""
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind.partition("-")[2] or 2048))
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "ed448":
        return ed448.Ed448PrivateKey.generate()
    curves = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1(), "k256": ec.SECP256K1()}
    return ec.generate_private_key(curves[kind])


def pem(kind: str) -> bytes:
    """Its public half, in PEM."""
    public: bytes = private(kind).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return public


def jwk(kind: str, **fields: Any) -> dict[str, Any]:
    """Its public half, as an entry of a JWKS."""
    name = {"r": "RS256", "e": "EdDSA"}.get(kind[0], "ES256")
    key: dict[str, Any] = get_default_algorithms()[name].to_jwk(private(kind).public_key(), as_dict=True)
    return {**key, **fields}


def token(key: Any = SECRET, algorithm: str = "HS256", headers: Any = None, **claims: Any) -> str:
    """A token that expires in a day, unless ``exp`` says otherwise. None leaves a claim out.

    With less than that one that is made at collection could have expired when its test comes.
    """
    claims = {"exp": int(time.time()) + 86_400, **claims}
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm, headers)


def raw_token(header: Any, claims: Any, signature: bytes = b"") -> str:
    """Three parts, put together by hand."""
    parts = (part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (*parts, signature))

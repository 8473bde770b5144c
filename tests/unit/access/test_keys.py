"""Keys that will do, and those that will not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cyclone_sse.access.keys import MAX_KEYS, jwks_keys, read_keys, secret_keys
from tests.unit.access.keys import jwk, pem, private


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A file for keys."""
    return tmp_path / "keys"


def private_pem() -> bytes:
    pem: bytes = private("p256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "expected a public key in PEM, or a JWKS"),
        (b"{", "not JSON"),
        (b"{}", "a list of keys"),
        (b'{"keys": {}}', "a list of keys"),
        (b'{"keys": []}', "no key for signatures"),
        (b'{"keys": [{"kty": "RSA"}]}', "no key for signatures"),
        (b'{"keys": [{"kty": "oct", "k": "AAAA"}]}', "secret"),
        (json.dumps({"keys": [jwk("rsa", d="1")]}).encode(), "secret"),
        (json.dumps({"keys": [jwk("rsa", kid="1"), jwk("p256", kid="1")]}).encode(), "same kid"),
        (json.dumps({"keys": [jwk("rsa-1024")]}).encode(), "2048 bits"),
        (pem("rsa-1024"), "2048 bits"),
        (private_pem(), "private key"),
    ],
)
def test_a_file_that_will_not_do(keys: Path, content: bytes | None, reason: str) -> None:
    if content is not None:
        keys.write_bytes(content)
    with pytest.raises(ValueError, match=f"^--jwt-keys={keys}: .*{reason}"):
        read_keys(str(keys))


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="--jwt-secret: expected at least 32 bytes"):
        secret_keys(["x" * 31])


def test_a_set_has_a_bound() -> None:
    one = jwk("p256")
    with pytest.raises(ValueError, match="more than 100 keys"):
        jwks_keys(json.dumps({"keys": [one] * (MAX_KEYS + 1)}).encode())


def test_a_key_so_long_that_each_check_takes_seconds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at most 8192|no key"):
        jwks_keys(json.dumps({"keys": [{**jwk("rsa"), "n": "w" + "A" * 4000}]}).encode())

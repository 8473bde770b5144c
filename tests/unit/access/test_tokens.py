"""Tokens: what they grant, and the attacks of RFC 8725 that they withstand."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from cyclone_sse.access.grant import MAX_SECONDS, Grant
from cyclone_sse.access.keys import SigningKey, jwks_keys
from cyclone_sse.access.tokens import LEEWAY, MAX_TOKEN, BadToken, NoKeys, Tokens
from cyclone_sse.options import with_defaults
from tests.unit.access.keys import SECRET, jwk, pem, private, raw_token, token

KINDS = [
    *[("rsa", f"{family}{bits}") for family in ("RS", "PS") for bits in (256, 384, 512)],
    *[("p256", "ES256"), ("p384", "ES384"), ("p521", "ES512"), ("k256", "ES256K")],
    *[("ed25519", "EdDSA"), ("ed448", "EdDSA")],
]


def tokens(**settings: Any) -> Tokens:
    """Read with these options; the secret is known unless there is a file of keys."""
    if "jwt_keys" not in settings:
        settings.setdefault("jwt_secret", SECRET)
    named = {name.replace("_", "-"): value for name, value in settings.items()}
    return Tokens(with_defaults(named), Clock())


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A file for keys."""
    return tmp_path / "keys"


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_secret_takes_its_algorithms(algorithm: str) -> None:
    expires = int(time.time()) + 100
    given = token(SECRET, algorithm, sub="42", subscribe=["user-42", "news-*"], publish=["chat"], exp=expires)
    assert tokens().grant(given) == Grant("42", ("user-42", "news-*"), ("chat",), expires)


def test_a_secret_of_32_bytes_is_enough_for_all_of_them() -> None:
    """Without a warning for each token, which the test would fail by."""
    secret = "x" * 32
    reader = tokens(jwt_secret=secret)
    for algorithm in ("HS256", "HS384", "HS512"):
        assert reader.grant(token(secret, algorithm, sub="1")).user == "1"


@pytest.mark.parametrize(("kind", "algorithm"), KINDS)
def test_a_public_key_in_pem(keys: Path, kind: str, algorithm: str) -> None:
    keys.write_bytes(pem(kind))
    given = token(private(kind), algorithm, {"kid": "any"}, sub="42")
    assert tokens(jwt_keys=str(keys)).grant(given).user == "42"


@pytest.mark.parametrize(("kind", "algorithm"), KINDS)
def test_a_key_of_a_set(keys: Path, kind: str, algorithm: str) -> None:
    others = ["rsa", "p256", "ed25519"]
    entries: list[Any] = [jwk(other, kid=f"other-{other}") for other in others]
    entries += [{"kty": "what", "kid": "x"}, {"kty": "EC"}, jwk(kind, kid="theirs", use="enc"), 5]
    keys.write_text(json.dumps({"keys": [*entries, jwk(kind, kid="it")]}))
    given = token(private(kind), algorithm, {"kid": "it"}, sub="42")
    assert tokens(jwt_keys=str(keys)).grant(given).user == "42"
    for kid in ("other-p384", "theirs", "x"):
        with pytest.raises(BadToken):
            tokens(jwt_keys=str(keys)).grant(token(private(kind), algorithm, {"kid": kid}))


def test_the_key_of_a_kid_is_preferred_to_one_without(keys: Path) -> None:
    keys.write_text(json.dumps({"keys": [jwk("rsa-2049"), jwk("rsa", kid="it")]}))
    reader = tokens(jwt_keys=str(keys))
    assert reader.grant(token(private("rsa"), "RS256", {"kid": "it"}, sub="42")).user == "42"
    assert reader.grant(token(private("rsa-2049"), "RS256", {"kid": "other"}, sub="42")).user == "42"


def test_a_token_without_kid_fits_the_only_key_of_its_kind(keys: Path) -> None:
    keys.write_text(json.dumps({"keys": [jwk("rsa", kid="1"), jwk("p256", kid="2")]}))
    assert tokens(jwt_keys=str(keys)).grant(token(private("p256"), "ES256", sub="42")).user == "42"
    keys.write_text(json.dumps({"keys": [jwk("rsa", kid="1"), jwk("rsa-2049", kid="2")]}))
    with pytest.raises(BadToken, match="no key fits"):
        tokens(jwt_keys=str(keys)).grant(token(private("rsa"), "RS256", sub="42"))


def test_the_algorithm_of_an_entry_holds(keys: Path) -> None:
    keys.write_text(json.dumps({"keys": [jwk("rsa", kid="1", alg="PS256")]}))
    reader = tokens(jwt_keys=str(keys))
    assert reader.grant(token(private("rsa"), "PS256", {"kid": "1"}, sub="42")).user == "42"
    with pytest.raises(BadToken):
        reader.grant(token(private("rsa"), "RS256", {"kid": "1"}))


def test_a_secret_and_a_file_serve_together(keys: Path) -> None:
    keys.write_bytes(pem("p256"))
    reader = tokens(jwt_keys=str(keys), jwt_secret=SECRET)
    assert reader.grant(token(sub="1")).user == "1"
    assert reader.grant(token(private("p256"), "ES256", sub="2")).user == "2"


def test_keys_are_read_again(keys: Path) -> None:
    keys.write_bytes(pem("p256"))
    reader = tokens(jwt_keys=str(keys))
    old, new = token(private("p256"), "ES256", sub="1"), token(private("ed25519"), "EdDSA", sub="2")
    keys.write_bytes(pem("ed25519"))
    assert reader.grant(old).user == "1"
    reader.reload()
    assert reader.grant(new).user == "2"
    with pytest.raises(BadToken):
        reader.grant(old)
    keys.write_bytes(b"in the middle of being written")
    with pytest.raises(ValueError, match=f"--jwt-keys={keys}: expected a public key"):
        reader.reload()
    assert reader.grant(new).user == "2"


def test_each_secret_of_a_file_is_valid(keys: Path) -> None:
    old, new = "o" * 32, "n" * 64
    keys.write_text(f"{new}\n{old}\n")
    reader = tokens(jwt_secret_file=str(keys), jwt_keys=None)
    for secret in (old, new):
        for algorithm in ("HS256", "HS384", "HS512"):
            assert reader.grant(token(secret, algorithm, sub="1")).user == "1"
    with pytest.raises(BadToken, match="another key"):
        reader.grant(token("x" * 32))
    with pytest.raises(BadToken, match="expired"):
        reader.grant(token(old, exp=int(time.time()) - 60))
    keys.write_text(new)
    assert reader.grant(token(old, sub="1"))
    reader.reload()
    with pytest.raises(BadToken, match="another key"):
        reader.grant(token(old, sub="1"))
    keys.write_text("short")
    with pytest.raises(ValueError, match="--jwt-secret-file"):
        reader.reload()
    assert reader.grant(token(new, sub="2")).user == "2"


def test_a_secret_and_a_file_of_secrets_serve_together(keys: Path) -> None:
    keys.write_text("n" * 32)
    reader = tokens(jwt_secret=SECRET, jwt_secret_file=str(keys))
    assert [reader.grant(token(key, sub="1")).user for key in (SECRET, "n" * 32)] == ["1", "1"]


class FakeKeyUrl:
    """Keys that come from a URL."""

    def __init__(self) -> None:
        self.keys: list[SigningKey] = []
        self.waiting: list[Deferred[None]] = []

    def refresh(self) -> Deferred[None]:
        self.waiting.append(Deferred())
        return self.waiting[-1]


def test_keys_from_a_url() -> None:
    reader = tokens(jwt_keys="https://www.example/jwks")
    url = reader._key_url = FakeKeyUrl()  # type: ignore[assignment]
    given = token(private("p256"), "ES256", {"kid": "1"}, sub="42")
    with pytest.raises(NoKeys):
        reader.grant(given)
    assert reader.can_fetch
    assert reader.missing_key(given) is url.waiting[0]
    url.keys = jwks_keys(json.dumps({"keys": [jwk("p256", kid="1")]}).encode())
    assert reader.grant(given).user == "42"
    assert reader.missing_key(given) is None
    assert reader.missing_key(token(private("p256"), "ES256", {"kid": "2"})) is url.waiting[1]
    for nonsense in ("", "a.b.c", "x" * (MAX_TOKEN + 1), raw_token({"alg": "ES256", "typ": 5}, {})):
        assert reader.missing_key(nonsense) is None, "nothing is fetched for it"


def test_keys_of_a_file_are_never_missing(keys: Path) -> None:
    keys.write_text(json.dumps({"keys": [jwk("p256", kid="1")]}))
    reader = tokens(jwt_keys=str(keys))
    assert not reader.can_fetch
    assert reader.missing_key(token(private("p256"), "ES256", {"kid": "2"})) is None


def signed(header: Any, claims: Any, secret: bytes = SECRET.encode()) -> str:
    """A token that is put together by hand, but signed."""
    head = raw_token(header, claims).rpartition(".")[0]
    signature = hmac.new(secret, head.encode(), hashlib.sha256).digest()
    return f"{head}.{raw_token(b'', b'', signature).rpartition('.')[2]}"


HS = {"alg": "HS256", "typ": "JWT"}
SOON = int(time.time()) + 86_400


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("", "not valid"),
        ("a.b", "not valid"),
        ("a.b.c", "not valid"),
        ("a.b.c.d.e", "not valid"),
        ("é", "not valid"),
        ("." * 100, "not valid"),
        ("x" * (MAX_TOKEN + 1), "too long"),
        (raw_token({"alg": "none"}, {"exp": SOON}), "no key fits"),
        (raw_token({"alg": "None"}, {"exp": SOON}), "no key fits"),
        (raw_token({"alg": ""}, {"exp": SOON}), "no key fits"),
        (raw_token({"alg": ["HS256"]}, {"exp": SOON}), "no key fits"),
        (raw_token({}, {"exp": SOON}), "no key fits"),
        (raw_token(HS, {"exp": SOON}), "not valid"),  # no signature
        (raw_token(b"[" * 5000, b""), "not valid"),
        (raw_token([], {"exp": SOON}), "not valid"),
        (raw_token({**HS, "kid": 5}, {"exp": SOON}), "not valid"),
        (signed(HS, {"exp": SOON}, b"another secret of 32 bytes and more"), "not valid"),
        (signed({**HS, "typ": "logout+jwt"}, {"exp": SOON}), "another kind"),
        (signed({**HS, "typ": 5}, {"exp": SOON}), "another kind"),
        (signed({**HS, "crit": ["exp"]}, {"exp": SOON}), "not valid"),
        (signed({**HS, "crit": ["b64"], "b64": False}, {"exp": SOON}), "not valid"),
        (signed(HS, [1]), "not valid"),
        (signed(HS, b"\xff"), "not valid"),
        (signed(HS, b"[" * 4000), "not valid"),
        (signed({**HS, "cty": "JWT"}, token().encode()), "not valid"),  # a token within a token
        (signed(HS, {}), "has no exp"),
        (signed(HS, {"exp": None}), "has no exp"),
        (signed(HS, {"exp": str(SOON)}), "exp is not a number"),
        (signed(HS, {"exp": True}), "expired"),
        (signed(HS, {"exp": [SOON]}), "exp is not a number"),
        (signed(HS, {"exp": "2030-01-01"}), "exp is not a number"),
        (signed(HS, {"exp": SOON, "nbf": None}), "nbf is not a number"),
        (signed(HS, {"exp": SOON, "nbf": "yesterday"}), "nbf is not a number"),
        (signed(HS, b'{"exp": 1e999}'), "not valid"),
        (signed(HS, b'{"exp": NaN}'), "not valid"),
        (signed(HS, {"exp": 10**400}), "exp is too large"),
        (signed(HS, {"exp": -SOON}), "expired"),
        (signed(HS, {"exp": int(time.time()) - LEEWAY - 1}), "expired"),
        (signed(HS, {"exp": SOON, "nbf": SOON}), "not valid yet"),
        (signed(HS, {"exp": SOON, "nbf": "1700000000"}), "nbf is not a number"),
        (signed(HS, {"exp": SOON, "sub": ["42"]}), "sub is neither text nor a whole number"),
        (signed(HS, {"exp": SOON, "sub": True}), "sub is neither"),
        (signed(HS, {"exp": SOON, "iat": "now"}), "iat is not a number"),
        (signed(HS, {"exp": SOON, "info": "x" * 1100}), "info is longer"),
        (signed(HS, {"exp": SOON, "aud": "another"}), "another audience"),
        (signed(HS, {"exp": SOON, "subscribe": "abc"}), "subscribe is not a list of names"),
        (signed(HS, {"exp": SOON, "subscribe": {"a": 1}}), "subscribe is not a list of names"),
        (signed(HS, {"exp": SOON, "subscribe": ["a", 1]}), "subscribe is not a list of names"),
        (signed(HS, {"exp": SOON, "subscribe": ["a", ["b"]]}), "subscribe is not a list of names"),
        (signed(HS, {"exp": SOON, "subscribe": None}), "subscribe is not a list of names"),
        (signed(HS, {"exp": SOON, "publish": "*"}), "publish is not a list of names"),
    ],
    ids=lambda text: text[:12],  # the time is further behind, and each process must find the same names
)
def test_what_is_no_good_token(given: str, reason: str) -> None:
    with pytest.raises(BadToken, match=reason) as raised:
        tokens().grant(given)
    assert given[:10] not in str(raised.value) or not given[:10]


def test_what_is_signed_by_hand_above_would_do() -> None:
    assert tokens().grant(signed(HS, {"exp": SOON, "sub": "42"})).user == "42"
    assert tokens().grant(signed(HS, {"exp": SOON, "sub": 42})).user == "42"
    assert tokens().grant(signed(HS, {"exp": SOON, "jti": 7, "info": {"n": 1}})).info == '{"n":1}'
    assert tokens().grant(signed(HS, {"exp": 1e300})).expires == pytest.approx(
        time.time() + MAX_SECONDS, abs=60
    )
    assert tokens().grant(signed({"alg": "HS256", "typ": "application/at+jwt"}, {"exp": SOON})).user is None


@pytest.mark.parametrize("kind", ["rsa", "p256", "ed25519"])
def test_a_public_key_is_never_taken_for_a_secret(keys: Path, kind: str) -> None:
    """The classic: the attacker signs with HMAC, and the public key in the place of the secret."""
    for content, secret in (
        (pem(kind), pem(kind)),
        (json.dumps({"keys": [jwk(kind, kid="1")]}).encode(), pem(kind)),
    ):
        keys.write_bytes(content)
        for public in (secret, secret.strip(), content):
            with pytest.raises(BadToken, match="no key fits"):
                tokens(jwt_keys=str(keys)).grant(signed({**HS, "kid": "1"}, {"exp": SOON}, public))


@pytest.mark.parametrize(("kind", "algorithm"), [("rsa", "RS256"), ("p256", "ES256"), ("ed25519", "EdDSA")])
def test_a_key_of_another_kind_and_a_key_in_the_token_are_refused(
    keys: Path, kind: str, algorithm: str
) -> None:
    keys.write_bytes(pem("p384"))
    reader = tokens(jwt_keys=str(keys))
    headers = {"jwk": jwk(kind), "jku": "https://evil.example/jwks", "x5u": "https://evil.example/x"}
    for given in (token(private(kind), algorithm), token(private(kind), algorithm, headers)):
        with pytest.raises(BadToken):
            reader.grant(given)


def test_none_is_refused_with_keys_too(keys: Path) -> None:
    keys.write_bytes(pem("rsa"))
    with pytest.raises(BadToken, match="no key fits"):
        tokens(jwt_keys=str(keys)).grant(raw_token({"alg": "none"}, {"exp": SOON}))


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({}, "has no iss"),
        ({"iss": "us"}, "has no aud"),
        ({"iss": "them", "aud": "push"}, "another issuer"),
        ({"iss": ["us"], "aud": "push"}, "another issuer"),
        ({"iss": "us", "aud": "shop"}, "another audience"),
        ({"iss": "us", "aud": {"push": 1}}, "another audience"),
        ({"iss": "us", "aud": ["push", 1]}, "another audience"),
        ({"iss": "us", "aud": "push"}, None),
        ({"iss": "us", "aud": ["shop", "push"]}, None),
    ],
)
def test_issuer_and_audience(claims: dict[str, Any], reason: str | None) -> None:
    reader = tokens(jwt_issuer="us", jwt_audience="push")
    given = signed(HS, {"exp": SOON, **claims})
    if reason is None:
        assert reader.grant(given) == Grant(expires=SOON)
    else:
        with pytest.raises(BadToken, match=reason):
            reader.grant(given)


def test_clocks_may_differ_a_little() -> None:
    now = int(time.time())
    late = tokens().grant(token(exp=now - LEEWAY // 2))
    assert late.expires is not None
    assert now < late.expires <= now + LEEWAY
    assert tokens().grant(token(nbf=now + LEEWAY // 2)).expires is not None

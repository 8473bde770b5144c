"""What a listener for TLS needs, and what may be wrong with its files."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from cyclone_sse.daemon.tls import EXPIRY_NOTICE, TlsTransports, expiry, expiry_warning, tls_context
from tests.harness.certificates import write_certificates


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_certificates(tmp_path_factory.mktemp("certificates"))


def test_only_ciphers_with_forward_secrecy_and_authentication(files: Path) -> None:
    context = tls_context(str(files / "chain.pem"), str(files / "leaf.key"))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    for cipher in context.get_ciphers():
        assert cipher["aead"], cipher["name"]
        assert cipher["name"].startswith(("ECDHE-", "TLS_")), cipher["name"]


@pytest.mark.parametrize(
    ("cert", "key", "why"),
    [
        ("missing.pem", "leaf.key", "^--ssl-cert=.*missing.pem: No such file"),
        ("chain.pem", "missing.key", "^--ssl-key=.*missing.key: No such file"),
        ("leaf.key", "leaf.key", "^--ssl-cert=.*leaf.key does not contain a PEM certificate"),
        ("chain.pem", "chain.pem", "^--ssl-key=.*chain.pem does not contain an unencrypted PEM private key"),
        ("chain.pem", "other.key", "^--ssl-key=.*other.key is not the private key of .*chain.pem"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(files: Path, cert: str, key: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as error:
        TlsTransports(str(files / cert), str(files / key))
    assert "\n" not in str(error.value)


def test_the_end_of_a_certificate_is_reported_before_it_comes(files: Path) -> None:
    cert = str(files / "chain.pem")
    end = expiry(cert)
    assert expiry_warning(cert, end - EXPIRY_NOTICE - 1) == []
    (line,) = expiry_warning(cert, end - EXPIRY_NOTICE)
    assert "expires on" in line
    (line,) = expiry_warning(cert, end)
    assert "has expired on" in line
    assert TlsTransports(cert, str(files / "leaf.key")).expiry == end

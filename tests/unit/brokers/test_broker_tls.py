"""The certificates for connections to a broker; see also tests/integration/brokers/test_broker_tls.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cyclone_sse.brokers.broker_tls import BrokerTls
from cyclone_sse.options import with_defaults
from tests.harness.certificates import write_certificates


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return write_certificates(tmp_path)


def tls(**names: Path | str) -> BrokerTls:
    return BrokerTls(with_defaults({f"broker-{name}": str(path) for name, path in names.items()}))


def test_files_are_read(files: Path) -> None:
    tls()
    tls(ca=files / "root.pem")
    tls(ca=files / "chain.pem", cert=files / "chain.pem", key=files / "leaf.key")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"ca": "none.pem"}, "--broker-ca=.*none.pem: No such file"),
        ({"ca": "leaf.key"}, "--broker-ca=.*leaf.key: this is not a PEM"),
        ({"cert": "chain.pem"}, "set both"),
        ({"key": "leaf.key"}, "set both"),
        ({"cert": "leaf.key", "key": "leaf.key"}, "expected a certificate and its key"),
    ],
)
def test_a_mistake_is_one_line(files: Path, names: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tls(**{name: files / file for name, file in names.items()})

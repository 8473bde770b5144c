"""From the options to the application and TLS."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from cyclone_sse.daemon.prepare import prepare
from cyclone_sse.options import with_defaults
from cyclone_sse.server import App
from tests.harness.certificates import write_certificates


def options(**given: Any) -> dict[str, Any]:
    return with_defaults({name.replace("_", "-"): value for name, value in given.items()})


def test_the_standard_application_without_tls_by_default() -> None:
    application, tls = prepare(options())
    assert type(application) is App
    assert tls is None


def test_tls_where_it_is_wanted(tmp_path: Path) -> None:
    write_certificates(tmp_path)
    files = {"ssl_cert": str(tmp_path / "chain.pem"), "ssl_key": str(tmp_path / "leaf.key")}
    assert prepare(options(use_ssl=True, **files))[1] is not None


@pytest.mark.parametrize(
    ("source", "why"),
    [("class App:\n def __init__(self, settings): pass\n", "no attribute broker"), ("1 / 0", "division")],
)
def test_an_application_that_will_not_do_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, why: str
) -> None:
    name = f"unfit_{len(source)}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, ImportError), match=why):
        prepare(options(app=f"{name}.App"))


def test_a_missing_library_is_named_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "cyclone_sse.server"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cyclone_sse.server", None)
    with pytest.raises(ValueError, match=r"pip install --no-deps -r requirements\.txt"):
        prepare(options())

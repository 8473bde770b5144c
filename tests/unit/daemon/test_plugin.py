"""From the options to the application and TLS, and the clock of all delays."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor

from cyclone_sse.daemon.plugin import build, use_monotonic_clock
from cyclone_sse.options import with_defaults
from cyclone_sse.server import App
from tests.harness.certificates import write_certificates


def options(**given: Any) -> dict[str, Any]:
    return with_defaults({name.replace("_", "-"): value for name, value in given.items()})


def test_the_standard_application_without_tls_by_default() -> None:
    application, tls = build(options())
    assert type(application) is App
    assert tls is None


def test_tls_where_it_is_wanted(tmp_path: Path) -> None:
    write_certificates(tmp_path)
    files = {"ssl_cert": str(tmp_path / "chain.pem"), "ssl_key": str(tmp_path / "leaf.key")}
    assert build(options(use_ssl=True, **files))[1] is not None


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
        build(options(app=f"{name}.App"))


def test_a_missing_library_is_named_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "cyclone_sse.server"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cyclone_sse.server", None)
    with pytest.raises(ValueError, match=r"is missing; .* pip install \..* outside the checkout"):
        build(options())


def test_delays_are_measured_by_the_monotonic_clock() -> None:
    reactor = EPollReactor()
    use_monotonic_clock(reactor)
    before = time.monotonic()
    call = reactor.callLater(5, lambda: None)
    assert before + 5 <= call.getTime() <= time.monotonic() + 5
    use_monotonic_clock(reactor)  # once more does no harm
    reactor.disconnectAll()


def test_what_waits_by_the_other_clock_is_a_mistake() -> None:
    reactor = EPollReactor()
    reactor.callLater(5, lambda: None)
    with pytest.raises(RuntimeError, match="scheduled"):
        use_monotonic_clock(reactor)
    reactor.disconnectAll()

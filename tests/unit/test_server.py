"""Which handler is at which path, and applications of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from cyclone_sse.brokers import HttpBroker
from cyclone_sse.handlers import StatsHandler
from cyclone_sse.server import App, load_app
from tests.unit.http.peer import MemoryServer


def paths(application: App) -> set[str]:
    """Where something is."""
    return {route[0] for route in application.routes()}


def app(**settings: Any) -> App:
    return App({name.replace("_", "-"): value for name, value in settings.items()}, reactor=Clock())


def test_what_is_served_follows_the_options() -> None:
    assert paths(app()) == {"/", "/stats", "/state", "/publish", "/disconnect", "/clear"}
    assert paths(app(stats=False)) == {"/", "/state", "/publish", "/disconnect", "/clear"}
    assert paths(app(http_publish=False)) == {"/", "/stats", "/state"}
    assert "/(demo)" in paths(app(demo=True))


@pytest.mark.parametrize("broker", ["redis", "amqp"])
def test_only_some_brokers_take_posts_by_themselves(broker: str) -> None:
    assert "/publish" not in paths(app(broker=broker))
    assert "/publish" in paths(app(broker=broker, http_publish=True))
    assert "/publish" in paths(app(broker="redis-stream"))


def test_who_posts_where_nothing_is_published_is_told_which_option_lacks() -> None:
    site = MemoryServer()
    protocol, site.app = site.app.protocol, app(http_publish=False, stats=False)
    site.app.protocol = protocol
    reasons = {
        "/publish": b"see --http-publish",
        "/disconnect": b"see --http-secret",
        "/clear": b"see --http-secret",
        "/presence": b"see --channels",
        "/stats": b"see --stats",
        "/nowhere": b"Not Found: streams are at /?channels=..., publishing is at /publish",
    }
    for path, reason in reasons.items():
        status, _, body = site.request("POST", path)
        assert status == 404
        assert reason in body


def test_streams_can_be_ended_only_where_publishers_are_authorised() -> None:
    assert "/disconnect" in paths(app(broker="redis", http_secret="k"))
    assert "/disconnect" not in paths(app(broker="redis"))


def test_a_subclass_changes_one_handler_or_the_broker() -> None:
    class Stats(StatsHandler):
        pass

    class Broker(HttpBroker):
        pass

    class Mine(App):
        stats_handler = Stats

        def make_broker(self, settings: Any, reactor: Any) -> Any:
            return Broker(settings, reactor)

    mine = Mine({}, reactor=Clock())
    assert ("/stats", Stats) in mine.routes()
    assert isinstance(mine.broker, Broker)


def test_an_application_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_found.py").write_text("class App: pass\nnumber = 1\n")
    (tmp_path / "mine_broken.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    assert load_app("mine_found.App").__name__ == "App"
    for name, why in (
        ("mine_found.Other", "Other"),
        ("mine_found.number", "not a class"),
        ("mine_broken.App", "division by zero"),
        ("mine_missing.App", "mine_missing"),
    ):
        with pytest.raises(ImportError, match=why):
            load_app(name)

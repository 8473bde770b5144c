"""Applications of users: the one in extras as it is, and others that override what may be overridden."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.clients import Subscriber, publish, request, stats
from tests.integration.process import ROOT
from tests.integration.servers import SseServer

Serve = Callable[..., SseServer]

MINE = """
from cyclone.web import Application, HTTPError
from twisted.internet import reactor
from twisted.internet.task import deferLater

from cyclone_sse.brokers import Broker
from cyclone_sse.handlers import BroadcastHandler, PublishHandler, StatsHandler


class MyBroker(Broker):
    def __init__(self, settings):
        Broker.__init__(self, settings, "mine")
        self.asked = []

    def connect(self):
        self.prefix = "connected"

    def subscribe(self, channel):
        self.asked.append(channel)

    def publish(self, channels, message):
        for channel in channels:
            self.broadcast(None, channel, "%s %s" % (self.prefix, message))


class Handler(BroadcastHandler):
    def authorize(self):
        how = self.get_argument("how")
        if how == "later-no":
            return deferLater(reactor, 0.01, lambda: False)
        if how == "later-yes":
            return deferLater(reactor, 0.01, lambda: True)
        if how == "forbidden":
            raise HTTPError(403)
        if how == "later-forbidden":
            return deferLater(reactor, 0.01, self.forbid)
        if how == "bug":
            raise ZeroDivisionError("secret")
        return how == "yes"

    def forbid(self):
        raise HTTPError(403)

    def sendEvent(self, message, event=None, eid=None, retry=None):
        BroadcastHandler.sendEvent(self, message.upper(), "mine", eid, retry)


class Asked(StatsHandler):
    def get_stats(self):
        return self.broker.asked


class App(Application):
    def __init__(self, settings):
        self.broker = MyBroker(settings)
        routes = [("/", Handler), ("/publish", PublishHandler), ("/stats", StatsHandler), ("/asked", Asked)]
        Application.__init__(self, routes)
"""


@pytest.fixture
def mine(serve: Serve, tmp_path: Path) -> SseServer:
    """A daemon with an application of its own, from the directory it is started in."""
    (tmp_path / "mine.py").write_text(MINE)
    return serve("--app=mine.App")


def test_the_documented_application_runs_unchanged(serve: Serve, tmp_path: Path) -> None:
    shutil.copy(ROOT / "extras" / "custom_app.py", tmp_path / "custom_app.py")
    server = serve("-r", "custom_app.App")
    answer = request("GET", f"{server.url}/?channels=base")
    assert (answer.status, answer.json["status"]) == (401, "error")
    with Subscriber(server.url, headers={"Cookie": "member=yes"}) as member:
        publish(server.url, "base", "hello")
        assert member.event().data == "hello"
        assert stats(server.url) == {"base": 1}


@pytest.mark.parametrize(
    ("how", "status"), [("no", 401), ("later-no", 401), ("forbidden", 403), ("later-forbidden", 403)]
)
def test_whoever_is_not_authorized_is_refused(mine: SseServer, how: str, status: int) -> None:
    answer = request("GET", f"{mine.url}/?channels=base&how={how}")
    assert (answer.status, answer.json["status"]) == (status, "error")
    assert stats(mine.url) == {}


def test_a_fault_in_authorize_is_logged_and_not_told(mine: SseServer) -> None:
    answer = request("GET", f"{mine.url}/?channels=base&how=bug")
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert mine.log.count("ZeroDivisionError: secret") == 1
    mine.kill()  # a clean stop would hold the traceback against it


@pytest.mark.parametrize("how", ["yes", "later-yes"])
def test_own_broker_and_own_events(mine: SseServer, how: str) -> None:
    with Subscriber(mine.url, ["base", "more"], query={"how": how}) as client:
        publish(mine.url, "base", "hello")
        first = client.event()
        assert (first.type, first.data) == ("mine", "CONNECTED HELLO")
    publish(mine.url, "base", "missed")
    with Subscriber(mine.url, "base", first.id, query={"how": how}) as back:
        assert back.event().data == "CONNECTED MISSED"
    assert request("GET", f"{mine.url}/asked").json == ["base", "more"]

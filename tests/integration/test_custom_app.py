"""Applications of users: the one in extras as it is, and others that override what may be overridden."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.clients import Subscriber, publish, request, stats
from tests.harness.process import ROOT, until
from tests.harness.servers import SseServer
from tests.unit.access.keys import SECRET, token

Serve = Callable[..., SseServer]

# As it was documented for version 0.7.7, and for 1.0; it must run unchanged.
DOCUMENTED = """
from cyclone.web import Application

from cyclone_sse.brokers import HttpBroker
from cyclone_sse.handlers import BroadcastHandler, PublishHandler, StatsHandler


class MemberHandler(BroadcastHandler):
    def authorize(self):
        return self.get_cookie("member") == "yes"


class App(Application):
    def __init__(self, settings):
        handlers = [
            (r"/", MemberHandler),
            (r"/publish", PublishHandler),
            (r"/stats", StatsHandler),
        ]
        self.broker = HttpBroker(settings)
        Application.__init__(self, handlers)
"""

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


@pytest.mark.parametrize("which", ["as documented", "in extras"])
def test_the_documented_application_runs_unchanged(serve: Serve, tmp_path: Path, which: str) -> None:
    if which == "in extras":
        shutil.copy(ROOT / "extras" / "custom_app.py", tmp_path / "custom_app.py")
    else:
        (tmp_path / "custom_app.py").write_text(DOCUMENTED)
    server = serve("-r", "custom_app.App")
    answer = request("GET", f"{server.url}/?channels=base")
    assert (answer.status, answer.json["status"]) == (401, "error")
    with Subscriber(server.url, headers={"Cookie": "member=yes"}) as member:
        publish(server.url, "base", "hello")
        assert member.event().data == "hello"
        assert stats(server.url) == {"base": 1}


def test_a_changed_handler_keeps_the_rest(serve: Serve, tmp_path: Path) -> None:
    """The broker of the options, the rules, the demo page and refusals in JSON."""
    shutil.copy(ROOT / "extras" / "custom_app.py", tmp_path / "custom_app.py")
    server = serve(
        "-r", "custom_app.App", f"--jwt-secret={SECRET}", "--http-secret=k", "--demo=1", "--stats=0"
    )
    assert request("GET", f"{server.url}/demo").status == 200
    answer = request("GET", f"{server.url}/stats")
    assert (answer.status, answer.json["status"]) == (404, "error")
    query = {"access_token": token(subscribe=["base"])}
    for headers, status in (({}, 401), ({"Cookie": "member=yes"}, 200)):
        with Subscriber(server.url, query=query, headers=headers) as client:
            assert client.status == status
    assert request("GET", f"{server.url}/?channels=base", headers={"Cookie": "member=yes"}).status == 401
    assert "access_token" not in server.log


def test_no_token_in_the_log_of_an_application(serve: Serve, tmp_path: Path) -> None:
    """cyclone logs each request with its uri, unless an application forbids it."""
    (tmp_path / "custom_app.py").write_text(
        DOCUMENTED.replace('== "yes"', "or self.log.info(repr(self.request))")
    )
    server = serve("-r", "custom_app.App", f"--jwt-secret={SECRET}")
    good = token(subscribe=["base"])
    answer = request(
        "GET", f"{server.url}/?channels=base&access_token={good}", headers={"Cookie": f"x={good}"}
    )
    assert answer.status == 401  # no member
    assert request("GET", f"{server.url}/stats?access_token={good}").status == 200
    until(lambda: "200 GET /stats" in server.log, "cyclone's own line")
    assert server.log.count("/?channels=base") >= 2
    assert good not in server.log


@pytest.mark.parametrize(
    ("how", "status"), [("no", 401), ("later-no", 401), ("forbidden", 403), ("later-forbidden", 403)]
)
def test_a_client_that_is_not_authorised_is_refused(mine: SseServer, how: str, status: int) -> None:
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

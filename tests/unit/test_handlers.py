"""Statistics, and the names that custom applications import."""

from __future__ import annotations

import json

from cyclone.web import Application

from cyclone_sse.brokers import Broker
from tests.unit.fakes import TurnClock
from tests.unit.http.peer import MemoryServer


def test_stats_list_who_listens() -> None:
    server = MemoryServer()
    assert json.loads(server.request("GET", "/stats")[2]) == []
    server.connect("GET", "/?channels=a&channels=b")
    server.connect("GET", "/?channels=b&channels=b")
    _, head, body = server.request("GET", "/stats")
    assert json.loads(body) == [["a", 1], ["b", 2]]
    assert "Content-Type: application/json" in head
    assert server.request("HEAD", "/stats")[2] == b""
    for query, listed in (
        ("channel=a", ["a"]),
        ("channel=a&channel=b&channel=c", ["a", "b"]),
        ("prefix=b", ["b"]),
        ("prefix=b&channels[]=a", ["a", "b"]),
        ("prefix=", ["a", "b"]),
        ("channel=c", []),
    ):
        assert [row[0] for row in json.loads(server.request("GET", f"/stats?{query}")[2])] == listed


def test_stats_of_many_prefixes_are_refused() -> None:
    server = MemoryServer()
    query = "&".join(f"prefix={number}" for number in range(11))
    assert server.request("GET", f"/stats?{query}")[0] == 400
    assert server.request("GET", f"/stats?{query.partition('&')[2]}")[0] == 200


def test_stats_of_very_many_channels_are_made_in_turns() -> None:
    server = MemoryServer({"max-channels": 5000})
    for start in range(0, 5000, 500):
        names = "&".join(f"channels=c{number}" for number in range(start, start + 500))
        server.connect("GET", f"/?{names}")
    asking = server.connect("GET", "/stats", turn=False)
    assert not asking.value()
    server.turn()
    assert len(json.loads(asking.value().partition(b"\r\n\r\n")[2])) == 5000


def test_names_that_users_import() -> None:
    from cyclone_sse import amqp, brokers, handlers, periodic, server

    assert issubclass(server.App, Application)
    assert {"get_channels", "authorize", "bind", "unbind", "sendEvent"} <= set(dir(handlers.BroadcastHandler))
    assert issubclass(handlers.BroadcastHandler, handlers.ExtendedSSEHandler)
    assert hasattr(handlers.PublishHandler, "post")
    assert hasattr(handlers.PublishHandler, "secret_key")
    assert hasattr(handlers.StatsHandler, "get_stats")
    for kind in (brokers.HttpBroker, brokers.RedisBroker, brokers.AmqpBroker):
        assert issubclass(kind, Broker)
        assert hasattr(kind({}, TurnClock()), "secret_key")
    hooks = {"connect", "subscribe", "unsubscribe", "is_pattern_blocked", "broadcast"}
    assert hooks | {"add_client", "remove_client", "stats", "send_event"} <= set(dir(Broker))
    assert callable(amqp.AmqpSubscriberProtocol)
    assert callable(amqp.AmqpSubscriberFactory)
    assert issubclass(periodic.GraphiteExport, periodic.UdpExport)
    assert hasattr(periodic.UdpExport, "prepare")

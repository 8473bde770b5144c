"""The names that custom applications import."""

from __future__ import annotations

from cyclone.web import Application

from cyclone_sse.brokers import Broker
from tests.unit.fakes import TurnClock


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

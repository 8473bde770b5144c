"""A client that reconnects receives the events that it missed, or a gap event."""

from __future__ import annotations

import pytest

from tests.harness.clients import Subscriber
from tests.harness.process import until
from tests.harness.upstreams import Upstream
from tests.integration.brokers.test_faults import AWAY, BACK, wait_for
from tests.integration.conftest import Serve


def test_events_published_while_no_client_was_connected_are_there(serve: Serve, upstream: Upstream) -> None:
    server = serve(*upstream.options)
    with Subscriber(server.url, "base") as client:
        upstream.publish("base", "1")
        last_id = client.event().id
    with Subscriber(server.url, "other") as other:
        upstream.publish("base", "2", "3")
        upstream.publish("other", "the end")
        assert other.event().data == "the end"
        with Subscriber(server.url, "base", last_id) as client:
            upstream.publish("base", "4")
            assert client.data(3) == ["2", "3", "4"]


def test_after_the_linger_time_a_gap_is_told(serve: Serve, upstream: Upstream) -> None:
    server = serve(*upstream.options, "--linger=0.1")
    with Subscriber(server.url, "base") as client:
        upstream.publish("base", "1")
        last_id = client.event().id
    until(lambda: upstream.subscriptions() == set(), "nothing is subscribed any more")
    upstream.publish("base", "2")
    with Subscriber(server.url, "base", last_id) as client:
        upstream.publish("base", "3")
        gap, event = client.events(2)
        assert (gap.type, event.data) == ("sse-gap", "3")


@pytest.mark.slow
def test_a_resume_across_a_restart_of_the_broker(serve: Serve, upstream: Upstream) -> None:
    server = serve(*upstream.options)
    with Subscriber(server.url, "base") as client, Subscriber(server.url, "base") as other:
        upstream.publish("base", "1", "2")
        first, _ = client.events(2)
        other.events(2)
        client.close()
        upstream.server.kill()
        wait_for(server, AWAY)
        upstream.restart()
        wait_for(server, BACK)
        assert other.event().type == "sse-gap"
        upstream.publish("base", "3")
        assert other.event().data == "3"
        with Subscriber(server.url, "base", first.id) as back:
            gap, *events = back.events(3)
            assert gap.type == "sse-gap"
            assert [event.data for event in events] == ["2", "3"]
        with Subscriber(server.url, "base", other.last_event_id) as late:
            upstream.publish("base", "4")
            assert late.event().data == "4"


def test_a_resume_at_another_instance_loses_nothing(serve: Serve, upstream: Upstream) -> None:
    here, there = serve(*upstream.options), serve(*upstream.options)
    with Subscriber(here.url, "base") as client, Subscriber(there.url, "base") as other:
        upstream.publish("base", *map(str, range(10)))
        last_id = client.events(5)[-1].id
        other.events(10)
    upstream.publish("base", "10")
    with Subscriber(there.url, "base", last_id) as client:
        upstream.publish("base", "the end")
        got = []
        while (event := client.event()).data != "the end":
            got.append(event)
        data = [event.data for event in got if event.type == "message"]
        # Some may be doubled: the clocks of two instances are trusted to five seconds only.
        assert data[-6:] == ["5", "6", "7", "8", "9", "10"]
        assert data == sorted(data, key=int)

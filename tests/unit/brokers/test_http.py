"""The HTTP broker: what it is given goes straight to the subscribers, and into the history file."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyclone_sse.brokers import HttpBroker
from cyclone_sse.delivery.publication import publication
from tests.unit.delivery.clients import turns
from tests.unit.fakes import FakeClient, TurnClock


def test_what_is_published_goes_out_under_the_ids_that_are_answered() -> None:
    clock = TurnClock()
    broker = HttpBroker({}, reactor=clock)
    client = FakeClient(broker).listen("a", "b")
    ids = broker.publish_all([publication("a", "1"), publication(["a", "b"], "2", type="t", retry=5)])
    turns(clock)
    assert ids == [event.id for event in client.parse()]
    assert [(event.type, event.data) for event in client.events] == [("message", "1"), ("t", "2")]


def test_it_hears_all_there_is_from_the_start() -> None:
    broker = HttpBroker({}, reactor=TurnClock())
    assert broker.available
    assert broker.ready(["a"]) is None


def test_a_history_file_that_will_not_do_is_one_line_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"not a database" * 100)
    broker = HttpBroker({"history-file": str(tmp_path / "file")}, reactor=TurnClock())
    with pytest.raises(ValueError, match=r"^--history-file=.*file"):
        broker.start()


@pytest.mark.parametrize("patterns", [True, False])
def test_a_star_makes_a_pattern_if_the_option_says_so(patterns: bool) -> None:
    clock = TurnClock()
    broker = HttpBroker({"patterns": patterns}, clock)
    client = FakeClient(broker).listen("news.*")
    for channel in ("news.it", "news.*"):
        broker.publish(channel, channel)
    clock.turn()
    assert client.messages == (["news.it", "news.*"] if patterns else ["news.*"])

"""A disk that hangs, and a history file that is not where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cyclone_sse.delivery.journal import FORGET_AFTER, MAX_WAITING_BYTES, WRITE_TIMEOUT
from cyclone_sse.delivery.publication import publication
from cyclone_sse.errors import Unavailable
from tests.unit.delivery.test_journal import Server, connections

__all__ = ["connections"]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def refusal(server: Server) -> Unavailable:
    with pytest.raises(Unavailable) as raised:
        server.publish_all([publication("a", "refused")])
    return raised.value


def test_publishers_do_not_wait_for_a_disk_that_hangs(server: Server) -> None:
    client = server.listen("a")
    server.disk.held = True
    refused: list[Any] = []
    for text in "12":
        server.publish_all([publication("a", text)]).addErrback(refused.append)
        server.turns()
    assert server.broker.problem is None
    server.clock.advance(WRITE_TIMEOUT)
    assert [each.value.published for each in refused] == ["unknown"] * 2, (
        "subscribers have it, and the disk may have it"
    )
    assert client.messages == ["1", "2"]
    assert refusal(server).published is False
    assert server.broker.problem == "the disk of the history file does not answer"
    server.disk.release()
    server.turns()
    assert server.broker.problem is None
    server.publish("a", "3")
    server.stop()
    server.start()
    assert server.heard("a", client.position) == (["1", "2", "3"], False)


@pytest.mark.parametrize("what", ["removed", "replaced"])
def test_nothing_is_accepted_for_a_file_that_is_not_in_its_place(server: Server, what: str) -> None:
    server.publish("a", "1")
    aside = server.path.rename(server.path.with_suffix(".aside"))
    if what == "replaced":
        server.path.write_bytes(b"")
    server.clock.advance(1)
    server.turns()
    assert refusal(server).published is False
    assert server.broker.problem == "the history file was removed or replaced"
    aside.rename(server.path)
    server.clock.advance(1)
    server.turns()
    server.publish("a", "2")
    assert server.broker.problem is None


def test_a_batch_is_accepted_whole_or_not_at_all(server: Server) -> None:
    """It is not split where the bytes that wait for the disk reach their bound."""
    client = server.listen("a")
    server.disk.held = True
    large = publication("a", "x" * (MAX_WAITING_BYTES - 1000))
    server.publish_all([publication("b", "x" * 10), large, *[publication("a", "y" * 1000)] * 3])
    server.turns()
    assert len(client.messages) == 4
    refusal(server)
    server.disk.release()
    server.turns()


def test_an_event_with_a_time_of_its_own_leaves_no_gap_after_a_restart(server: Server) -> None:
    first = server.listen("a").position
    server.publish("a", "short", ttl=2)
    server.clock.advance(FORGET_AFTER + 3)
    server.turns()
    server.clock.advance(FORGET_AFTER + 3)
    server.turns()
    server.stop()
    server.start()
    assert server.heard("a", first) == ([], False)

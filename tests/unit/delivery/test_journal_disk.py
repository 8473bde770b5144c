"""A disk that is slow, hangs or is full, and a history file that is not where it was."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cyclone_sse.delivery import journal_file as module
from cyclone_sse.delivery.journal import (
    ANSWERED_AT_ONCE,
    FORGET_AFTER,
    MAX_WAITING_BYTES,
    RETRY,
    WRITE_TIMEOUT,
)
from cyclone_sse.delivery.publication import publication
from cyclone_sse.errors import Unavailable
from tests.unit.delivery.journals import Server, connections, server

__all__ = ["connections", "server"]


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


def test_subscribers_do_not_wait_for_the_disk_but_the_publisher_does(server: Server) -> None:
    client = server.listen("a")
    server.disk.held = True
    answers: list[Any] = []
    server.publish_all([publication("a", "x"), publication("b", "y")]).addCallback(answers.append)
    server.turns()
    assert client.messages == ["x"]
    assert not answers
    server.disk.release()
    assert len(answers[0]) == 2


def test_what_gathers_while_the_disk_is_busy_is_one_transaction(server: Server) -> None:
    server.disk.held = True
    answers: list[Any] = []
    for number in range(5):
        server.publish_all([publication("a", str(number))]).addCallback(answers.append)
        server.turns()
    server.disk.release()
    assert len(answers) == 1, "each answer comes with its transaction"
    server.turns()
    assert server.disk.lots == [1, 4]
    assert len(answers) == 5


def test_what_publishers_send_after_their_answers_is_part_of_the_next_transaction(server: Server) -> None:
    server.disk.held = True
    answers: list[Any] = []

    def publish(message: str) -> Deferred[Any]:
        return server.publish_all([publication("a", message)]).addCallback(answers.append)

    # Like a request that waits on the same connection.
    publish("1").addCallback(lambda _: server.clock.callLater(0, publish, "3"))
    server.turns()
    publish("2")
    server.disk.release()
    server.turns()
    assert server.disk.lots == [1, 2]
    assert len(answers) == 3


@pytest.mark.parametrize("full", [False, True])
def test_very_many_publishers_get_their_answers_over_some_turns(server: Server, full: bool) -> None:
    server.disk.held, server.disk.full = True, full
    answers: list[Any] = []
    for _ in range(ANSWERED_AT_ONCE + 1):
        server.publish_all([publication("a", "x")]).addBoth(answers.append)
    server.turns()
    server.disk.release()
    assert len(answers) == ANSWERED_AT_ONCE
    server.turns()
    assert len(answers) == ANSWERED_AT_ONCE + 1
    assert all(isinstance(answer, Failure) == full for answer in answers)


@pytest.mark.parametrize("trouble", ["full", "hangs"])
def test_what_is_sent_again_with_its_key_after_a_trouble_of_the_disk_is_published_once(
    server: Server, trouble: str
) -> None:
    client = server.listen("a")
    server.disk.full, server.disk.held = trouble == "full", trouble == "hangs"
    answers: list[Any] = []

    def publish(key: str) -> None:
        each = publication("a", key, idempotency_key=key)
        try:
            server.publish_all([each]).addBoth(answers.append)
        except Unavailable as error:
            answers.append(error)
        server.turns()

    publish("k")
    server.clock.advance(WRITE_TIMEOUT)
    publish("k")
    assert [each.value.published for each in answers[:1]] == ["unknown"]
    assert isinstance(getattr(answers[1], "value", answers[1]), Unavailable), "it is still not on the disk"
    server.disk.full = False
    server.disk.release()
    server.clock.advance(RETRY)
    server.turns()
    publish("k")
    publish("l")
    publish("k")
    first, second, third = answers[2:]
    assert first == third
    assert first != second
    assert client.messages == ["k", "l"]
    server.stop()
    server.start()
    publish("k")
    assert answers[-1] == first
    assert server.heard("a", client.position) == (["k", "l"], False)


def test_a_disk_that_fails_after_it_has_hung_is_reported_as_both(server: Server) -> None:
    server.disk.held = server.disk.full = True
    server.publish_all([publication("a", "x")]).addErrback(lambda _: None)
    server.turns()
    server.clock.advance(WRITE_TIMEOUT)
    assert "does not answer" in str(refusal(server))
    server.disk.release()
    assert "cannot be written" in str(refusal(server))


def test_an_answer_that_fails_does_not_stop_the_writing(server: Server, failures: list[Any]) -> None:
    server.disk.held = True
    # As by an application that has stopped waiting, in a way of its own.
    server.publish_all([publication("a", "1")]).addErrback(lambda _: None).errback(TimeoutError())
    answers: list[Any] = []
    server.publish_all([publication("a", "2")]).addCallback(answers.append)
    server.turns()
    server.disk.release()
    assert len(answers) == 1
    assert len(failures) == 1
    server.publish("a", "3")


def test_stopping_waits_until_all_publishers_have_their_answers(server: Server) -> None:
    server.disk.held = True
    answers: list[Any] = []
    for _ in range(2 * ANSWERED_AT_ONCE):
        server.publish_all([publication("a", "x")]).addCallback(answers.append)
    server.turns()
    server.disk.held = False
    stopped = Deferred.fromCoroutine(server.broker.hub.publishing.close_journal())
    server.disk.release()
    while not stopped.called:
        server.clock.turn()
    assert len(answers) == 2 * ANSWERED_AT_ONCE


def test_a_full_disk_is_told_to_publishers_and_nothing_more_is_accepted(
    server: Server, failures: list[Any]
) -> None:
    client = server.listen("a")
    server.disk.held = server.disk.full = True
    refused: list[Any] = []
    server.publish_all([publication("a", "1")]).addErrback(refused.append)
    server.turns()
    server.publish_all([publication("a", "2")]).addErrback(refused.append)
    server.disk.release()
    server.turns()
    assert [each.check(Unavailable) for each in refused] == [Unavailable] * 2
    with pytest.raises(Unavailable):
        server.publish_all([publication("a", "3")])
    server.clock.advance(RETRY)
    with pytest.raises(Unavailable):
        server.publish_all([publication("a", "3")])
    server.disk.full = False
    server.clock.advance(RETRY)
    server.turns()
    server.publish("a", "4")
    assert client.messages == ["1", "2", "4"], "who listens has seen what was refused later"
    server.crash()
    server.start()
    assert server.heard("a", client.position) == (["1", "2", "4"], False), "and so it is kept at last"
    assert not failures


def test_a_bug_in_writing_is_logged_and_refuses_as_well(
    server: Server, failures: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(module.JournalFile, "write", broken)
    refused: list[Any] = []
    for _ in range(3):
        try:
            server.publish_all([publication("a", "1")]).addErrback(refused.append)
        except Unavailable:
            refused.append(None)
        server.clock.advance(RETRY)
        server.turns()
    assert len(refused) == 3
    assert len(failures) == 1


@pytest.mark.slow
def test_a_disk_that_is_too_slow_takes_no_more_than_fits_in_memory(server: Server) -> None:
    server.disk.held = True
    large = [publication("a", "x" * 2**20)] * (MAX_WAITING_BYTES // 2**20)
    server.publish_all(large)
    with pytest.raises(Unavailable):
        server.publish_all(large)
    server.turns()
    server.disk.release()
    server.turns()
    server.publish("a", "y")


@pytest.mark.parametrize("when", ["while it fails", "before it is noticed"])
def test_stopping_with_a_full_disk_ends(server: Server, when: str) -> None:
    server.disk.full = True
    refused: list[Any] = []
    server.publish_all([publication("a", "1")]).addErrback(refused.append)
    if when == "while it fails":
        server.turns()
    server.stop()
    assert refused
    server.start()
    server.publish("a", "2")

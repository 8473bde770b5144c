"""What a survey of a stream says about the place where reading stands."""

from __future__ import annotations

import pytest

from cyclone_sse.brokers.redis_stream_position import BEGINNING, Acknowledged, Position, Survey

FIFTH = Position(b"5-0", 5)
UNCOUNTED = Position(b"5-0")  # as of a Redis before 7.0


def survey(
    first: int | None, last: int, added: int | None, length: int | None = None, deleted: int = 0
) -> Survey:
    """All entries from the first to the last are there, unless the length is another."""
    held = 0 if first is None else last - first + 1
    return Survey(
        None if first is None else b"%d-0" % first,
        b"%d-0" % last,
        held if length is None else length,
        added,
        None if added is None else b"%d-0" % deleted,
    )


@pytest.mark.parametrize(
    ("position", "seen", "holds", "rewritten"),
    [
        (FIFTH, survey(1, 7, 7), True, False),
        (FIFTH, survey(1, 4, 4), False, True),  # its last id is before ours
        (FIFTH, survey(6, 7, 4), False, True),  # fewer were added than we have read and it still holds
        (FIFTH, survey(1, 7, 7), False, True),  # older ones are there, ours is not
        (FIFTH, survey(1, 7, 7, length=6, deleted=5), False, False),  # ours alone was deleted
        (FIFTH, survey(7, 7, 7), False, False),  # older ones were trimmed with ours
        (FIFTH, survey(None, 5, 5), False, False),
        (UNCOUNTED, survey(1, 7, None), False, True),
        (UNCOUNTED, survey(6, 7, None), False, False),
        (Position(), survey(1, 7, 7), False, False),  # nothing was read yet
    ],
)
def test_a_stream_that_went_back_is_found(
    position: Position, seen: Survey, holds: bool, rewritten: bool
) -> None:
    assert position.was_rewritten(seen, holds) is rewritten


@pytest.mark.parametrize(
    ("position", "seen", "trimmed"),
    [
        (FIFTH, survey(5, 9, 9), False),  # an older one is there
        (FIFTH, survey(6, 9, 9), False),  # all that was added since is there
        (FIFTH, survey(7, 9, 9), True),
        (FIFTH, survey(None, 5, 5), False),
        (FIFTH, survey(None, 6, 6), True),
        (UNCOUNTED, survey(None, 5, None), False),
        (UNCOUNTED, survey(6, 9, None), True),  # it cannot be known, and a gap is the safe answer
        (Position(), survey(3, 9, None), False),
    ],
)
def test_what_was_trimmed_before_it_was_read_is_found(
    position: Position, seen: Survey, trimmed: bool
) -> None:
    assert position.was_trimmed(seen) is trimmed


def test_reading_goes_on_after_the_last_entry() -> None:
    assert FIFTH.after_reading([b"6-0", b"7-0"], None) == Position(b"7-0", 7)
    assert UNCOUNTED.after_reading([b"6-0"], None) == Position(b"6-0")
    assert UNCOUNTED.after_reading([b"6-0"], survey(1, 6, 6)) == Position(b"6-0", 6)
    assert FIFTH.after_reading([], survey(1, 5, None)) == UNCOUNTED


def test_after_a_loss_reading_goes_on_with_what_is_left() -> None:
    assert FIFTH.after_trimming(survey(8, 9, 9)) == Position(b"5-0", 7)
    assert FIFTH.after_trimming(survey(None, 9, 9)) == Position(b"9-0", 9)


def test_the_lag_is_known_where_entries_are_counted() -> None:
    assert FIFTH.lag(survey(1, 9, 9)) == 4
    assert UNCOUNTED.lag(survey(1, 9, 9)) is FIFTH.lag(survey(1, 9, None)) is None
    assert Position(BEGINNING, 9).lag(survey(1, 5, 5)) == 0


def ids(*numbers: int) -> list[bytes]:
    return [b"%d-0" % number for number in numbers]


def test_added_entries_are_found_in_any_order() -> None:
    acknowledged = Acknowledged(10)
    acknowledged.add(ids(9, 6), 0)  # the second by another master, whose clock is behind
    acknowledged.add(ids(7), 0)
    assert not acknowledged.pop_read(ids(6, 7), survey(1, 7, 7))
    assert acknowledged.pop_read(ids(10), survey(1, 10, 8))


def test_no_more_added_entries_are_remembered_than_the_stream_holds() -> None:
    acknowledged = Acknowledged(3)
    for number in range(1, 100):  # while nothing is read
        acknowledged.add(ids(number), 0)
    assert len(acknowledged) == 3
    assert not acknowledged.pop_read(ids(97, 98, 99), survey(1, 99, 99)), "trimmed, or still to be"
    assert len(acknowledged) == 0

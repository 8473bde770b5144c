"""What channels have forgotten, in the order in which they did."""

from __future__ import annotations

from cyclone_sse.delivery.losses import Loss, Losses


def read(losses: Losses, seq: int) -> list[Loss]:
    return [loss for _, loss in losses.after(losses.key_at(seq))]


def test_the_last_loss_of_each_channel_is_read_from_a_position_on() -> None:
    losses = Losses()
    losses.note("a", 1, 5)
    losses.note("b", 2, 5)
    losses.note("a", 3, 9)
    assert read(losses, 4) == [("b", 2), ("a", 3)]
    assert read(losses, 5) == [("b", 2), ("a", 3)], "noted after the fifth, before the ninth"
    assert read(losses, 9) == []
    losses.forget("b")
    losses.forget("unknown")
    assert read(losses, 0) == [("a", 3)]


def test_a_floor_ahead_of_all_events_is_read_by_all_before_it() -> None:
    losses = Losses()
    losses.note("a", 20, 5)
    assert read(losses, 19) == [("a", 20)]


def test_a_loss_that_comes_late_does_not_hide_one_that_reached_further() -> None:
    losses = Losses()
    losses.note("a", 9, 9)
    losses.note("a", 3, 10)
    assert read(losses, 5) == [("a", 9)]

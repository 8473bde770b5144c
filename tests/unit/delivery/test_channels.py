"""The registry of channels and their subscribers."""

from __future__ import annotations

import gc
import sys

from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.delivery.channels import Channels


class Listener:
    channels: tuple[str, ...] = ()


names = st.lists(st.sampled_from("abcd"), max_size=4)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), names)))
def test_it_is_a_set_of_pairs_and_says_first_and_last(steps: list[tuple[bool, int, list[str]]]) -> None:
    registry: Channels[Listener] = Channels()
    listeners = [Listener() for _ in range(4)]
    pairs: set[tuple[str, int]] = set()
    for joins, number, channels in steps:
        before = {channel for channel, _ in pairs}
        if joins:
            changed = registry.add(listeners[number], channels)
            pairs |= {(channel, number) for channel in channels}
            assert set(changed) == {channel for channel, _ in pairs} - before
        else:
            changed = registry.remove(listeners[number], channels or None)
            pairs -= {(channel, number) for channel in channels or "abcd"}
            assert set(changed) == before - {channel for channel, _ in pairs}
        assert len(changed) == len(set(changed))
        for each, listener in enumerate(listeners):
            assert set(listener.channels) == {channel for channel, who in pairs if who == each}
        for channel in "abcd":
            expected = {who for name, who in pairs if name == channel}
            assert {listeners.index(one) for one in registry.of(channel)} == expected
            assert registry.count(channel) == len(expected)
        assert dict(registry.stats()).keys() == dict(registry.stats()).keys()
        assert len(registry) == len(dict(registry.stats()).keys())


def test_names_are_shared_and_freed() -> None:
    registry: Channels[Listener] = Channels()
    listeners = [Listener() for _ in range(3)]
    for listener in listeners:
        registry.add(listener, ["".join(["a long ", "name"])])
    name = listeners[0].channels[0]
    assert all(listener.channels[0] is name for listener in listeners)
    for listener in listeners:
        registry.remove(listener)
    gc.collect()
    assert sys.getrefcount(name) == 2, "nothing else refers to it: the name was not interned"

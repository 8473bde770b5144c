"""What is subscribed upstream, over links that the test holds in its hands."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from cyclone_sse.brokers.subscribing import LOT, REQUEST_AGAIN
from cyclone_sse.brokers.subscriptions import SUBSCRIBE_WAIT, Phase
from cyclone_sse.errors import Ending, Refusal
from tests.unit.brokers.links import Client, FakeBroker, FakeLink, connected, refused


def test_a_client_is_in_when_the_upstream_has_confirmed() -> None:
    broker = connected()
    inside = broker.come(Client(), "a", "b")
    broker.links[0].answer(1)
    assert (broker.sure, inside) == (["a"], [])
    broker.links[0].answer()
    assert (broker.sure, inside) == (["a", "b"], [True])
    assert (broker.links[0].held, broker.gaps) == ({"a", "b"}, [])


def test_what_is_asked_for_while_it_is_away_is_asked_for_when_it_is_back() -> None:
    broker = FakeBroker()
    broker.reachable = refused
    broker.connect()
    stays, leaves = Client(), Client()
    broker.come(stays, "a", "b")
    broker.come(leaves, "b", "c")
    broker.clock.advance(SUBSCRIBE_WAIT)
    broker.remove_client(leaves)
    broker.reachable = FakeLink
    broker.clock.pump([1] * 5)
    broker.links[0].answer()
    assert broker.links[0].held == {"a", "b"}
    assert broker.gaps == [{"a", "b"}]  # they were let in before
    assert broker.needed() == {"a", "b"}


def test_after_a_loss_everything_is_asked_for_again_and_the_gap_told_once() -> None:
    broker = connected()
    broker.come(Client(), "a", "b")
    broker.links[0].answer()
    broker.links[0].lose()
    inside = broker.come(Client(), "b", "c")
    broker.sure.clear()
    broker.clock.pump([0.5] * 3)
    broker.links[1].answer(1)
    assert (broker.gaps, inside) == ([], [])
    broker.links[1].answer()
    assert (broker.links[1].held, broker.gaps) == ({"a", "b", "c"}, [{"a", "b"}])
    assert ("c" in broker.sure, inside) == (True, [True])


def test_a_loss_during_the_way_back_tells_no_gap_yet() -> None:
    broker = connected()
    broker.come(Client(), "a", "b")
    broker.links[0].answer()
    broker.links[0].lose()
    broker.clock.pump([1] * 3)
    broker.links[1].answer(1)
    broker.links[1].lose()
    assert broker.gaps == []
    broker.clock.pump([1] * 5)
    broker.links[2].answer()
    assert broker.gaps == [{"a", "b"}]


def test_very_many_are_requested_in_lots_and_each_client_is_told_of_one_gap() -> None:
    names = [f"c{n}" for n in range(2 * LOT + 1)]
    broker = connected()
    stays, leaves = Client(), Client()
    broker.come(stays, *names[:-1])
    broker.come(leaves, names[-1])
    broker.links[0].answer()
    broker.links[0].lose()
    broker.clock.pump([1] * 3)
    link = broker.links[1]
    assert len(link.pending) == LOT
    inside = broker.come(Client(), "new")
    assert len(link.pending) == LOT + 1  # it does not wait for the others
    broker.remove_client(leaves)
    link.answer(LOT)
    assert (broker.gaps, len(link.pending)) == ([], LOT + 2)  # "new", and an unsubscription
    assert set(broker.sure) >= set(names[:LOT])  # they are complete from here on
    link.answer()
    assert (broker.gaps, inside) == ([set(names[: 2 * LOT])], [True])
    assert link.held == broker.needed() == {*names[:-1], "new"}


def test_an_error_of_the_moment_refuses_no_client(log: list[str]) -> None:
    broker = connected()
    link = broker.links[0]
    link.busy = True
    client = Client()
    inside = broker.come(client, "a")
    link.answer()
    broker.clock.advance(SUBSCRIBE_WAIT)
    assert inside == [True]  # it has waited long enough
    link.busy = False
    broker.clock.advance(REQUEST_AGAIN)
    link.answer()
    assert (link.held, broker.gaps, client.ending) == ({"a"}, [{"a"}], None)
    assert [line for line in log if "BUSY" in line] == [
        "Fake at 1:2 could not subscribe: BUSY Redis is busy running a script; trying again"
    ]


def test_a_confirmation_of_what_was_given_back_confirms_nothing_new() -> None:
    broker = connected()
    first, second = Client(), Client()
    broker.add_client(first, "a")
    broker.remove_client(first)
    inside = broker.come(second, "a")
    link = broker.links[0]
    link.answer(1)
    assert (broker.sure, inside) == ([], [])  # it will be given back next, with what is published until then
    link.answer()
    assert (broker.sure, inside, link.held) == (["a"], [True], {"a"})


def test_a_waiting_client_keeps_the_subscription() -> None:
    broker = connected()
    link = broker.links[0]
    leaves, comes = Client(), Client()
    broker.come(leaves, "a")
    link.answer()
    inside = broker.come(comes, "a", "b")
    broker.remove_client(leaves)
    assert broker.needed() == {"a", "b"}
    link.answer()
    assert (inside, link.held) == ([True], {"a", "b"})


@pytest.mark.parametrize(("options", "seconds"), [({}, 300), ({"history-ttl": 50}, 50), ({"linger": 5}, 5)])
def test_a_channel_is_listened_to_as_long_as_its_history_lasts(options: Any, seconds: int) -> None:
    broker = connected(**{"linger": None, **options})
    broker.subscriptions.start()
    client = Client()
    broker.come(client, "a")
    broker.links[0].answer()
    broker.remove_client(client)
    broker.clock.pump([1] * (seconds - 1))
    assert broker.needed() == {"a"}
    broker.clock.pump([1] * 3)
    assert broker.needed() == set()
    broker.subscriptions.stop()


def test_one_that_is_refused_is_told_and_the_others_are_let_in(log: list[str]) -> None:
    broker = connected()
    link = broker.links[0]
    link.forbidden = {"secret"}
    both, other = broker.come(Client(), "a", "secret"), broker.come(Client(), "a")
    link.answer()
    (error,) = both
    assert isinstance(error, Refusal)
    assert (error.status, "secret" in error.reason, other) == (403, True, [True])
    assert broker.needed() == {"a"}
    assert broker.come(Client(), "secret") != [True]  # requested again: it may be allowed by now
    assert [line for line in log if "secret" in line] == [
        "Fake at 1:2 does not allow the subscription to 'secret': NOPERM"
    ]


def test_clients_of_what_is_refused_after_a_return_are_let_go() -> None:
    broker = connected()
    stays, goes = Client(), Client()
    broker.come(stays, "a")
    broker.come(goes, "a", "b")
    broker.links[0].answer()
    broker.links[0].lose()
    broker.reachable = lambda: forbidding("b")
    broker.clock.pump([1] * 3)
    broker.links[1].answer()
    broker.clock.pump([0] * 3)
    assert (stays.ending, goes.ending) == (None, Ending.DENIED)
    broker.remove_client(goes)
    assert broker.needed() == {"a"}


def forbidding(channel: str) -> FakeLink:
    link = FakeLink()
    link.forbidden = {channel}
    return link


class Registry(RuleBasedStateMachine):
    """Clients come and go while the connection does: what is held is always what the registry says."""

    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self.broker = connected()

    @property
    def link(self) -> FakeLink | None:
        link = self.broker.receivers[-1]
        return link if link.lost is None else None

    @rule(target=clients, channels=st.lists(st.sampled_from("abcd"), min_size=1, unique=True))
    def come(self, channels: list[str]) -> Client:
        client = Client()
        self.broker.come(client, *channels)
        return client

    @rule(client=consumes(clients))
    def leave(self, client: Client) -> None:
        self.broker.remove_client(client)

    @rule(channel=st.sampled_from("abcd"))
    def be_refused(self, channel: str) -> None:
        if self.link:
            self.link.forbidden ^= {channel}

    @rule(n=st.integers(1, 3))
    def answer(self, n: int) -> None:
        if self.link:
            self.link.answer(n)

    @rule()
    def lose(self) -> None:
        if self.link:
            self.link.lose()

    @rule()
    def return_(self) -> None:
        self.broker.clock.pump([1] * 25)

    @invariant()
    def what_is_held_is_what_is_wanted(self) -> None:
        if self.link:
            held = set(self.link.held)
            for action, _ in self.link.pending:
                saved, self.link.held = self.link.held, held
                action()
                self.link.held = saved
            # What was refused has no record; a binding that stays behind does no harm.
            assert held >= self.broker.needed() >= {name for name, _ in self.broker.stats()}

    @invariant()
    def who_hears_nothing_for_certain_is_let_go(self) -> None:
        for channel, _ in self.broker.stats():
            assert self.broker.subscriptions.get(channel)

    def teardown(self) -> None:
        self.broker.clock.pump([1] * 25)
        assert self.link
        self.link.answer()
        assert self.link.held >= self.broker.needed()
        for interest in self.broker.subscriptions:
            assert interest.phase is Phase.CONFIRMED
            assert interest.timer is None


TestRegistry = pytest.mark.slow(Registry.TestCase)
TestRegistry.settings = settings(max_examples=100, stateful_step_count=30)

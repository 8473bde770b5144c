"""What the Redis and the AMQP broker share: an upstream that has to be asked for each channel.

What the upstream is subscribed to follows ``interests`` and nothing else. While there is a
connection, each change is one command on it; when there is a new connection,
everything that is wanted at that moment is subscribed again. So nothing is lost when
clients come and go while the upstream is away, however often.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.python.failure import Failure

from cyclone_sse.brokers.subscriptions import Phase, Subscription
from cyclone_sse.brokers.upstream import Link, UpstreamBroker, text_of
from cyclone_sse.errors import Ending, Refusal

LOT = 300  # channels that are asked for together: some milliseconds of work


class SubscribingLink(Link, Protocol):
    """A connection that subscribes; whatever was asked for is carried out in that order."""

    def subscribe(self, channel: str) -> Deferred[Any]:
        """Ask for all messages of a channel. Fires when it is confirmed, fails with what is said."""

    def unsubscribe(self, channel: str) -> Deferred[Any]:
        """The reverse."""


class SubscribingBroker(UpstreamBroker):
    """Base of the brokers that subscribe to what their clients want to hear."""

    def subscribe(self, channel: str) -> None:
        """Ask for the channel now, if the upstream is there; else it is asked for when it is back."""
        interest = self.interests.get(channel)
        if interest is not None and self._link is not None:
            Deferred.fromCoroutine(self._ask(self._link, [interest])).addErrback(self._bug, "subscription")

    def unsubscribe(self, channel: str) -> None:
        """Give the subscription back; when the upstream is away there is none."""
        if self._link is not None:
            # It fails when the connection does, and then it has come true all the same.
            self._link.unsubscribe(channel).addErrback(lambda _: None)

    def _subscribe(self, channel: str) -> None:
        # Not as with other brokers, whose `subscribe` says when it is confirmed: see `_confirm`.
        maybeDeferred(self.subscribe, channel).addErrback(self._bug, "subscribe")

    async def serve(self, link: SubscribingLink) -> None:
        """Subscribe to everything anew, lot by lot: there may be a hundred thousand."""
        wanted = list(self.interests)
        for start in range(0, len(wanted), LOT):
            lot = [interest for interest in wanted[start : start + LOT] if self._is_open(interest, link)]
            if lot:
                await self._ask(link, lot)
            if link.lost is not None:
                return

    def _is_open(self, interest: Subscription, link: SubscribingLink) -> bool:
        """Whether it is still to be asked for on this connection."""
        return interest.link is not link and self.interests.get(interest.channel) is interest

    async def _ask(self, link: SubscribingLink, interests: Sequence[Subscription]) -> None:
        for interest in interests:
            interest.link = link
        answers = await DeferredList([link.subscribe(each.channel) for each in interests], consumeErrors=True)
        if link.lost is not None or link is not self._link:
            return  # it is asked for again on the next one
        # What was given back since, and even asked for again, has another record by now.
        current = [
            (interest, answer)
            for interest, (done, answer) in zip(interests, answers, strict=True)
            if self.interests.get(interest.channel) is interest
        ]
        self._confirm([interest for interest, answer in current if not isinstance(answer, Failure)])
        for interest, answer in current:
            if isinstance(answer, Failure):
                self._refuse(interest.channel, answer)

    def _confirm(self, interests: Sequence[Subscription]) -> None:
        """The upstream sends everything of these channels from now on.

        Whoever is already in, because it was there before an interruption or had waited too long, may have
        missed something.
        """
        interrupted = [interest.channel for interest in interests if interest.phase is not Phase.REQUESTED]
        if interrupted:
            self.hub.send_gap(interrupted)
        self.hub.set_complete(
            [interest.channel for interest in interests if interest.phase is Phase.REQUESTED]
        )
        for interest in interests:
            self.interests.confirm(interest.channel)

    def _refuse(self, channel: str, failure: Failure) -> None:
        """The upstream does not let us hear the channel, so nobody is to believe that he hears it."""
        self.say_seldom(
            "{server} does not let us subscribe to {channel!r}: {reason}",
            server=self.server,
            channel=channel[:100],
            reason=text_of(failure.value),
        )
        self.interests.refuse(
            channel, Refusal(403, f"the broker does not allow the channel {channel[:100]!r}")
        )
        self.hub.forget(channel)
        self.hub.end(Ending.DENIED, [channel])

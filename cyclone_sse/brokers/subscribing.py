"""The common part of the Redis and the AMQP broker, which subscribe upstream to each channel.

Only ``subscriptions`` determines the subscriptions of the upstream. While there is a connection, each change
is one command; on a new connection, all channels that are needed at that moment are subscribed again. So no
subscription is lost when clients connect and disconnect while the upstream is away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.python.failure import Failure

from cyclone_sse.brokers.link import NotAllowed, SubscribingLink, text_of
from cyclone_sse.brokers.subscriptions import Phase, Subscription
from cyclone_sse.brokers.upstream import UpstreamBroker
from cyclone_sse.delivery.publication import Publication
from cyclone_sse.errors import Ending, Refusal

LOT = 300  # channels that are requested together: some milliseconds of work
REQUEST_AGAIN = 1.0  # seconds after which a request that failed for the moment (-BUSY, -LOADING) is repeated


L = TypeVar("L", bound=SubscribingLink)


class SubscribingBroker(UpstreamBroker[L], Generic[L]):
    """Base of the brokers that subscribe to the channels of their clients."""

    def publish_all(self, publications: Sequence[Publication]) -> Deferred[Any]:
        """Publish all of these. Fires when the upstream has accepted them. A publication whose key this
        server has seen is not published again.
        """
        d: Deferred[Any] = self.hub.idempotency.publish_new(publications, super().publish_all)
        return d

    def subscribe(self, channel: str) -> None:
        """Request the channel now if the upstream is there; else it is requested when it is back."""
        subscription = self.subscriptions.get(channel)
        if subscription is not None and self._link is not None:
            d = Deferred.fromCoroutine(self._request_late(self._link, [subscription]))
            d.addErrback(self._log_bug, "subscription")

    def unsubscribe(self, channel: str) -> None:
        """Cancel the subscription; while the upstream is away there is none."""
        if self._link is not None:
            # If the connection is lost first, the subscription ended with it.
            self._link.unsubscribe(channel).addErrback(lambda _: None)

    def _subscribe(self, channel: str) -> None:
        # Not as with other brokers, whose `subscribe` fires when it is confirmed: see `_confirm`.
        maybeDeferred(self.subscribe, channel).addErrback(self._log_bug, "subscribe")

    async def run(self, link: L) -> None:
        """Subscribe to all channels again, LOT at a time: there may be a hundred thousand.

        Clients receive the gap when all of it is done, so that one outage is one event for a client of
        several lots.
        """
        needed = list(self.subscriptions)
        interrupted: list[str] = []
        for start in range(0, len(needed), LOT):
            lot = [each for each in needed[start : start + LOT] if self._must_request(each, link)]
            if lot:
                interrupted += await self._request(link, lot)
            if link.lost is not None:
                return  # on the next connection all of them are interrupted again
        self._send_gap(interrupted)

    async def _request_late(self, link: L, subscriptions: Sequence[Subscription]) -> None:
        self._send_gap(await self._request(link, subscriptions))

    def _send_gap(self, channels: Sequence[str]) -> None:
        current = [channel for channel in channels if self.subscriptions.get(channel) is not None]
        if current:
            self.hub.send_gap(current)

    def _must_request(self, subscription: Subscription, link: L) -> bool:
        """Whether the channel is still to be requested on this connection."""
        return subscription.link is not link and self._is_current(subscription)

    def _is_current(self, subscription: Subscription) -> bool:
        """Whether it is still needed; a channel that was given up and is needed again has another record."""
        return self.subscriptions.get(subscription.channel) is subscription

    async def _request(self, link: L, subscriptions: Sequence[Subscription]) -> list[str]:
        """Subscribe to these channels. Returns those whose clients may have missed messages."""
        for subscription in subscriptions:
            subscription.link = link
        answers = await DeferredList(
            [link.subscribe(each.channel) for each in subscriptions], consumeErrors=True
        )
        if link.lost is not None or link is not self._link:
            return []  # they are requested again on the next one
        current = [
            (subscription, answer)
            for subscription, (_, answer) in zip(subscriptions, answers, strict=True)
            if self._is_current(subscription)
        ]
        interrupted = self._confirm(
            [subscription for subscription, answer in current if not isinstance(answer, Failure)]
        )
        for subscription, answer in current:
            if isinstance(answer, Failure):
                self._not_subscribed(subscription, answer)
        return interrupted

    def _confirm(self, subscriptions: Sequence[Subscription]) -> list[str]:
        """Note that the upstream sends everything of these channels from now on.

        Returns the channels whose clients may have missed something: they were subscribed before an
        interruption, or had waited too long.
        """
        interrupted = [each.channel for each in subscriptions if each.phase is not Phase.REQUESTED]
        self.hub.set_complete([each.channel for each in subscriptions])
        for subscription in subscriptions:
            self.subscriptions.confirm(subscription.channel)
        return interrupted

    def _not_subscribed(self, subscription: Subscription, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, NotAllowed):
            self._refuse(subscription.channel, error)
            return
        self.log_rarely(
            "{server} could not subscribe: {reason}; trying again", server=self.server, reason=text_of(error)
        )
        self.reactor.callLater(REQUEST_AGAIN, self._request_again, subscription)

    def _request_again(self, subscription: Subscription) -> None:
        link = self._link
        if link is not None and subscription.link is link and self._is_current(subscription):
            d = Deferred.fromCoroutine(self._request_late(link, [subscription]))
            d.addErrback(self._log_bug, "subscription")

    def _refuse(self, channel: str, error: NotAllowed) -> None:
        """Refuse and end the channel's clients. Without this, their streams would stay open in vain."""
        self.log_rarely(
            "{server} does not allow the subscription to {channel!r}: {reason}",
            server=self.server,
            channel=channel[:100],
            reason=text_of(error),
        )
        self.subscriptions.refuse(
            channel, Refusal(403, f"the broker does not allow the channel {channel[:100]!r}")
        )
        self.hub.forget(channel)
        self.hub.end(Ending.DENIED, [channel])

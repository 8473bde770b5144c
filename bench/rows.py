"""The lines of the report's table: the title of each metric, and its target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.plan import Plan
from bench.results import EARLIER, OURS, REFERENCE, Results

TURN = 20.0  # milliseconds for which one request may keep the others waiting
WORST_TURN = 50.0  # milliseconds, in all floods and storms


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    `target` is a ratio to `beside` (which the first column names) or, if `beside` is empty or `absolute` is
    set, a figure in the unit of `form`; None: no target. `at_least`: whether higher figures are better.
    """

    metric: str
    title: str
    form: str
    target: float | None = None
    beside: str = "limit"
    absolute: bool = False
    at_least: bool = False
    reference: str = REFERENCE

    def goal(self) -> str:
        """The target as text."""
        if self.target is None:
            return ""
        sign = "≥" if self.at_least else "≤"
        if self.absolute:
            return f"{sign} {self.form.format(self.target)}"
        return f"{sign} {self.target:g} x {self.beside}"

    def met(self, results: Results) -> bool | None:
        """Whether ours meets the target; None if there is no target or no figure."""
        if self.absolute:
            value = results.value(self.metric, OURS)
        else:
            value = results.ratio(self.metric, OURS, self.reference)
        if self.target is None or value is None:
            return None
        return value >= self.target if self.at_least else value <= self.target


def rows(plan: Plan) -> list[Row]:
    """All lines, the most important first."""
    return [
        *_fan_out(plan),
        *_ways(plan),
        *_coming(plan),
        *_tls(plan),
        *_publishing(plan),
        *_rooms(plan),
        *_turns(plan),
        *_costs(plan),
    ]


def _fan_out(plan: Plan) -> Iterator[Row]:
    for subscribers, _ in reversed(plan.crowds):
        # the smaller crowds are only in the plot
        target = 1.05 if subscribers in dict(plan.crowds_of_many_channels) else None
        yield Row(f"last one {subscribers}", f"time to the last of {subscribers:,}", "{:.1f} ms", target)
    for kind, words in (
        ("own", "each also with a channel of its own"),
        ("three", "each with three channels"),
    ):
        for subscribers, _ in reversed(plan.crowds_of_many_channels):
            yield Row(f"last {kind} {subscribers}", f"the last of {subscribers:,}, {words}", "{:.1f} ms", 1.1)
    title = f"deliveries/s, {plan.flow_subscribers:,} subscribers, 4 publishes in flight"
    yield Row("deliveries", title, "{:,.0f}", 2, at_least=True)


def _ways(plan: Plan) -> Iterator[Row]:
    crowd = f"{plan.largest:,}"
    for way, words, target in (
        ("fields", "asked with `fields=channel`", 1.15),
        ("fields own", "the same, each also with a channel of its own", 1.15),
        ("state", "asked with `state=1`", None),
        ("presence", "asked with `presence=1`", None),
        ("unix", "on a UNIX socket, beside TCP", None),
    ):
        yield Row(f"last {way}", f"the last of {crowd}, {words}", "{:.1f} ms", target)
        yield Row(f"connect {way}", f"time to connect {crowd}, {words}", "{:.2f} s")
    yield Row("last polls", f"the last of {crowd} long polls is answered, beside streams", "{:.1f} ms")
    yield Row("poll again", f"{crowd} that were answered wait in their next poll", "{:.2f} s")


def _coming(plan: Plan) -> Iterator[Row]:
    crowd = f"{plan.largest:,}"
    yield Row("connect one", f"time to connect {crowd}", "{:.2f} s", 2.8)
    yield Row("connect own", f"time to connect {crowd}, each also with a channel of its own", "{:.2f} s", 3.2)
    yield Row("connect three", f"time to connect {crowd}, each with three channels", "{:.2f} s")
    back = f"{crowd} reconnect at once, {plan.missed} missed events each"
    plain = "a plain connect"
    yield Row("storm one", back, "{:.2f} s", 1.25, beside=plain)
    yield Row("storm own", f"{back}, also with a channel of their own", "{:.2f} s", beside=plain)
    yield Row("memory", "memory for each idle subscriber", "{:.1f} KiB", 4, absolute=True)


def _tls(plan: Plan) -> Iterator[Row]:
    for subscribers, _ in reversed(plan.tls_crowds):
        title = f"TLS: time to the last of {subscribers:,}"
        yield Row(f"tls {subscribers}", title, "{:.1f} ms", 1.3, beside="C with OpenSSL")
    title, beside = "TLS: memory for each subscriber", "C with OpenSSL"
    yield Row("tls memory", title, "{:.1f} KiB", 20, beside=beside, absolute=True)


def _publishing(plan: Plan) -> Iterator[Row]:
    def rate(metric: str, title: str, target: float, beside: str = "limit", absolute: bool = False) -> Row:
        return Row(metric, title, "{:,.0f}", target, beside, absolute, at_least=True)

    own = f"publishes/s to one's own channel among {plan.largest:,}"
    batch = f"events/s, {plan.batch:,} in one POST to {plan.batch:,} own channels"
    burst = f"{plan.entries:,} XADD in a burst to {plan.stream_subscribers} subscribers, events/s"
    yield rate("publishes", f"publishes/s, {plan.publish_subscribers} subscribers", 0.6)
    yield rate("publishes own", own, 0.3)
    yield rate("batch", batch, 40000, absolute=True)
    yield from _channels(plan)
    yield rate("stream", f"redis-stream: {burst}", 0.7, "redis-benchmark")
    reading = "redis-stream: entries to channels without clients"
    yield Row("entries", f"{reading}, read a second", "{:,.0f}")
    yield Row("entries processor", f"{reading}, processor for each", "{:.0f} us")
    yield rate("history", "`--history-file`: publishes/s", 0.7, "without")


def _channels(plan: Plan) -> Iterator[Row]:
    for channels in plan.channels:
        metric, title = f"channels {channels}", f"one publish to {channels:,} channels"
        seconds, megabytes = (0.05, 20) if channels == plan.channels[0] else (None, None)
        yield Row(metric, title, "{:.3f} s", seconds, absolute=True)
        yield Row(f"{metric} turn", f"{title}: longest turn", "{:.1f} ms", TURN, absolute=True)
        yield Row(f"{metric} memory", f"{title}: memory", "{:.1f} MB", megabytes, absolute=True)


def _rooms(plan: Plan) -> Iterator[Row]:
    held = f"one new pattern, {plan.held_channels:,} channels held: longest turn"
    yield Row("pattern new", held, "{:.1f} ms", TURN, absolute=True)
    yield Row("pattern back", f"{held} while it resumes", "{:.1f} ms", TURN, absolute=True)
    title = f"events/s beside {plan.pattern_streams} idle streams of {plan.patterns} patterns"
    yield Row("patterns", title, "{:,.0f}", 0.9, "without", at_least=True)
    burst = f"presence: {plan.members:,} join a room of {plan.members:,} within {plan.join_seconds:g} s"
    for kind, words, share in (("numbers", "", 5), ("names", ", with `--presence-max` above it", None)):
        events, processor = f"presence {kind} events", f"presence {kind} processor"
        yield Row(events, f"{burst}{words}: events for each member", "{:.0f}", 10, absolute=True)
        yield Row(processor, f"{burst}{words}: processor in addition", "{:.1f} %", share, absolute=True)


def _turns(plan: Plan) -> Iterator[Row]:
    crowd = f"{plan.largest:,}"
    for metric, words in (
        ("connect", f"while {crowd} connect"),
        ("return", f"while {crowd} reconnect, {plan.missed} missed events each"),
        ("floods", "in the worst flood"),
    ):
        yield Row(f"turn {metric}", f"longest turn {words}", "{:.1f} ms", WORST_TURN, absolute=True)


def _costs(plan: Plan) -> Iterator[Row]:
    for metric, words in (("connect", "connection"), ("publish", f"publish to {plan.publish_subscribers}")):
        title = f"user time for each {words}"
        yield Row(f"cost {metric}", title, "{:.0f} us", 0.65, beside=EARLIER, reference=EARLIER)
    title = f"processor with {plan.largest:,} idle of {plan.idle_channels} channels each, pings included"
    yield Row("idle", title, "{:.2f} %", 1, absolute=True)

"""The figures in Prometheus' format, read by its own parser."""

from __future__ import annotations

import json
import platform
import re
from itertools import combinations
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from cyclone_sse import __version__
from cyclone_sse.access.auth_url import AuthFigures
from cyclone_sse.brokers import HttpBroker
from cyclone_sse.daemon.metrics import Metrics, Sources, gauges
from cyclone_sse.errors import Ending
from tests.unit.fakes import FakeClient, TurnClock


def sources(broker: HttpBroker) -> Sources:
    """All sources that there can be."""
    auth = AuthFigures()
    auth.answers["204"] += 2
    return Sources(
        broker,
        connections=lambda: 7,
        longest_turn=lambda: 0.012,
        certificate_expiry=lambda: 2e9,
        auth=lambda: auth,
    )


def test_every_figure_has_its_name_type_and_text() -> None:
    clock = TurnClock()
    broker = HttpBroker({}, reactor=clock)
    broker.lag = 3  # type: ignore[attr-defined]
    FakeClient(broker).listen("a")
    broker.hub.counters.refusals[404] += 2
    broker.hub.counters.publish_seconds.observe(0.003)
    families = {
        family.name: family
        for family in text_string_to_metric_families(Metrics(sources(broker)).text().decode())
    }
    assert {name.removeprefix("cyclone_sse_"): family.type for name, family in families.items()} == {
        "build_info": "gauge",
        **dict.fromkeys(["connections", "subscribers", "channels", "broker_connected"], "gauge"),
        **dict.fromkeys(["history_events", "history_bytes", "slow_clients", "waiting_bytes"], "gauge"),
        **dict.fromkeys(["longest_turn_seconds", "certificate_expiry_timestamp_seconds"], "gauge"),
        **dict.fromkeys(["stream_lag_entries", "auth_requests_in_flight"], "gauge"),
        **dict.fromkeys(["events", "deliveries", "sent_bytes", "subscribes", "broker_reconnects"], "counter"),
        **dict.fromkeys(["resumes", "disconnects", "refusals"], "counter"),
        **dict.fromkeys(["publish_seconds", "fanout_seconds", "auth_seconds"], "histogram"),
        **dict.fromkeys(["auth_requests", "process_cpu_seconds"], "counter"),
        **dict.fromkeys(["process_open_fds", "process_max_fds", "process_start_time_seconds"], "gauge"),
        **dict.fromkeys(["process_resident_memory_bytes", "process_virtual_memory_bytes"], "gauge"),
    }
    assert all(family.documentation for family in families.values())
    samples = {
        (sample.name.removeprefix("cyclone_sse_"), *sample.labels.values()): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert samples["connections",] == 7
    assert samples["subscribers",] == 1
    assert samples["broker_connected",] == 1
    assert samples["build_info", platform.python_version(), __version__] == 1
    assert samples["certificate_expiry_timestamp_seconds",] == 2e9
    assert samples["auth_requests_total", "204"] == 2
    assert samples["refusals_total", "404"] == 2
    assert {key[1] for key in samples if key[0] == "disconnects_total"} == {each.value for each in Ending}
    assert samples["publish_seconds_bucket", "0.0025"] == 0
    assert samples["publish_seconds_bucket", "0.005"] == samples["publish_seconds_bucket", "+Inf"] == 1
    assert samples["publish_seconds_count",] == 1
    assert samples["publish_seconds_sum",] == 0.003


def test_the_dashboard_shows_each_figure_and_no_other() -> None:
    broker = HttpBroker({}, reactor=TurnClock())
    broker.hub.counters.refusals[503] += 1
    broker.lag = 3  # type: ignore[attr-defined]
    text = Metrics(sources(broker)).text().decode()
    figures = {
        sample.name.removesuffix("_bucket")
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not (family.type == "histogram" and sample.name.endswith(("_count", "_sum")))
    }
    dashboard = json.loads((Path(__file__).parents[3] / "extras" / "grafana.json").read_text())
    figures.add("cyclone_sse_journal_waiting_bytes")  # there is one with a history file
    queries = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    assert {
        name.removesuffix("_bucket") for name in re.findall(r"\b(?:cyclone_sse|process)_\w+", queries)
    } == figures
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for one, other in combinations([panel["gridPos"] for panel in dashboard["panels"]], 2):
        assert (one["x"], one["y"]) != (other["x"], other["y"])


def test_a_figure_that_there_is_not_here_is_left_out() -> None:
    text = Metrics(Sources(HttpBroker({}, reactor=TurnClock()), connections=lambda: 0)).text().decode()
    for name in ("certificate", "auth_", "journal", "stream_lag"):
        assert name not in text


def test_the_bytes_that_wait_are_those_of_slow_clients() -> None:
    clock = TurnClock()
    broker = HttpBroker({}, reactor=clock)
    slow = FakeClient(broker, room=1000).listen("a")
    FakeClient(broker).listen("a")
    broker.publish("a", "x" * 5000)
    clock.turn()
    assert broker.hub.slow_clients() == [slow.subscriber]
    assert gauges(sources(broker))["waiting_bytes"][1] == slow.subscriber.waiting_bytes > 3000

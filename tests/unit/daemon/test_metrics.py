"""The figures in Prometheus' format, read by its own parser."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from cyclone_sse.brokers import HttpBroker
from cyclone_sse.daemon.metrics import Metrics
from cyclone_sse.errors import Ending
from tests.unit.fakes import FakeClient, TurnClock


def test_every_figure_has_its_name_type_and_text() -> None:
    clock = TurnClock()
    broker = HttpBroker({}, reactor=clock)
    FakeClient(broker).listen("a")
    broker.hub.counters.refusals[404] += 2
    broker.hub.counters.publish_seconds.observe(0.003)
    families = {
        family.name: family
        for family in text_string_to_metric_families(
            Metrics(broker.hub, lambda: 7, lambda: False).text().decode()
        )
    }
    assert {name.removeprefix("cyclone_sse_"): family.type for name, family in families.items()} == {
        **dict.fromkeys(["connections", "subscribers", "channels", "broker_connected"], "gauge"),
        **dict.fromkeys(["history_events", "history_bytes"], "gauge"),
        **dict.fromkeys(["events", "deliveries", "sent_bytes", "subscribes", "broker_reconnects"], "counter"),
        **dict.fromkeys(["resumes", "disconnects", "refusals"], "counter"),
        **dict.fromkeys(["publish_seconds", "fanout_seconds"], "histogram"),
    }
    assert all(family.documentation for family in families.values())
    samples = {
        (sample.name.removeprefix("cyclone_sse_"), *sample.labels.values()): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert samples["connections",] == 7
    assert samples["subscribers",] == 1
    assert samples["broker_connected",] == 0
    assert samples["refusals_total", "404"] == 2
    assert {key[1] for key in samples if key[0] == "disconnects_total"} == {each.value for each in Ending}
    assert samples["publish_seconds_bucket", "0.0025"] == 0
    assert samples["publish_seconds_bucket", "0.005"] == samples["publish_seconds_bucket", "+Inf"] == 1
    assert samples["publish_seconds_count",] == 1
    assert samples["publish_seconds_sum",] == 0.003


def test_the_dashboard_shows_each_figure_and_no_other() -> None:
    broker = HttpBroker({}, reactor=TurnClock())
    broker.hub.counters.refusals[503] += 1
    text = Metrics(broker.hub, lambda: 0, lambda: True).text().decode()
    figures = {
        sample.name.removesuffix("_bucket")
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not (family.type == "histogram" and sample.name.endswith(("_count", "_sum")))
    }
    dashboard = json.loads((Path(__file__).parents[3] / "extras" / "grafana.json").read_text())
    queries = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    assert {name.removesuffix("_bucket") for name in re.findall(r"cyclone_sse_\w+", queries)} == figures
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for one, other in combinations([panel["gridPos"] for panel in dashboard["panels"]], 2):
        assert (one["x"], one["y"]) != (other["x"], other["y"])

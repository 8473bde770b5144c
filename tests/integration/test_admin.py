"""The admin port: health, readiness, and figures that a real Prometheus reads and that are right."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest

from cyclone_sse import __version__
from tests.harness.clients import Subscriber, publish, request
from tests.harness.patience import PATIENCE
from tests.harness.ports import free_port, free_ports
from tests.harness.process import ROOT, Process, accepts, need, until
from tests.harness.servers import RedisServer
from tests.integration.conftest import Serve


def figures(port: int) -> dict[str, float]:
    """All samples of a server by their name and labels."""
    text = request("GET", f"http://127.0.0.1:{port}/metrics").body.decode()
    samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name.removeprefix("cyclone_sse_"): float(value) for name, _, value in samples}


@pytest.fixture
def port() -> int:
    """A free one for the admin port."""
    return free_port()


def test_figures_are_those_of_what_was_done(serve: Serve, port: int) -> None:
    server = serve(f"--admin-port={port}")
    with Subscriber(server.url, ["a", "b"]) as one, Subscriber(server.url, "a") as two:
        publish(server.url, "a", "x" * 100)
        publish(server.url, ["a", "b"], "y")
        publish(server.url, "c", "z")
        one.events(2)
        two.events(2)
        last = two.last_event_id
        until(lambda: figures(port)["connections"] == 2, "the publishers' connections to be gone")
        found = figures(port)
        assert found["subscribers"] == 2
        assert found["channels"] == 2
        assert found["history_events"] == 3
        assert found["history_bytes"] > 100
        assert found["broker_connected"] == 1
        assert found["events_total"] == 3
        assert found["deliveries_total"] == 4
        assert found["sent_bytes_total"] == sum(len(each.body.lstrip(b"\n")) for each in (one, two))
        assert found["subscribes_total"] == 2
        assert found["publish_seconds_count"] == 3
        assert found["fanout_seconds_count"] >= 2
    Subscriber(server.url, "a", last).wait_open().close()
    Subscriber(server.url, "a", "1-0-other").wait_open().close()
    assert request("GET", f"{server.url}/nowhere").status == 404
    assert request("GET", f"{server.url}/").status == 400
    until(lambda: figures(port)["subscribers"] == 0, "all to be gone")
    found = figures(port)
    assert found['resumes_total{result="complete"}'] == 1
    assert found['resumes_total{result="gap"}'] == 1
    assert found['disconnects_total{reason="left"}'] == 4
    assert found['refusals_total{status="404"}'] == 1
    assert found['refusals_total{status="400"}'] == 1


def test_promtool_understands_the_dashboard(tmp_path: Path) -> None:
    dashboard = json.loads((ROOT / "extras" / "grafana.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = [
        {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "1m")}
        for number, query in enumerate(queries)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # JSON is YAML
    subprocess.run([need("promtool"), "check", "rules", str(file)], check=True, capture_output=True)


def test_promtool_understands_the_alerts_and_each_has_a_remedy() -> None:
    rules = ROOT / "extras" / "alerts.yml"
    subprocess.run([need("promtool"), "check", "rules", str(rules)], check=True, capture_output=True)
    alerts = re.findall(r"- alert: (\w+)", rules.read_text())
    remedies = re.findall(r"^\| (CycloneSse\w+) \|", (ROOT / "docs" / "running.md").read_text(), re.M)
    assert alerts == remedies


def test_the_alerts_fire_when_they_should(tmp_path: Path) -> None:
    series = {
        'cyclone_sse_broker_connected{instance="a"}': "0x20",
        'cyclone_sse_longest_turn_seconds{instance="a"}': "0.5x20",
        'cyclone_sse_longest_turn_seconds{instance="b"}': "0.01x20",
        'cyclone_sse_refusals_total{instance="a",status="503"}': "0+600x20",
        'cyclone_sse_refusals_total{instance="a",status="404"}': "0+600x20",
        'up{job="cyclone-sse",instance="a"}': "1x20",
        'process_open_fds{job="cyclone-sse",instance="a"}': "95x20",
        'process_max_fds{job="cyclone-sse",instance="a"}': "100x20",
    }
    warning, critical = {"severity": "warning"}, {"severity": "critical"}
    expected: dict[str, tuple[dict[str, str], str] | None] = {
        "CycloneSseBrokerAway": (critical, "a cannot reach its broker"),
        "CycloneSseLongTurns": (warning, "a serves no client for 0.5 s at a time"),
        "CycloneSseRefusals": (warning | {"status": "503"}, "a refuses requests with 503"),
        "CycloneSseFilesShort": (
            critical | {"job": "cyclone-sse"},
            "a uses more than 90 % of the files that it may open",
        ),
        "CycloneSseDown": None,
        "CycloneSseCertificateExpires": None,
    }
    tests = [
        {
            "eval_time": "15m",
            "alertname": name,
            "exp_alerts": [
                {"exp_labels": {"instance": "a", **labels}, "exp_annotations": {"summary": summary}}
                for labels, summary in ([alert] if alert else [])
            ],
        }
        for name, alert in expected.items()
    ]
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    test = {"interval": "1m", "input_series": inputs, "alert_rule_test": tests}
    file = tmp_path / "alerts_test.yml"
    file.write_text(json.dumps({"rule_files": [str(ROOT / "extras" / "alerts.yml")], "tests": [test]}))
    done = subprocess.run(
        [need("promtool"), "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_nothing(serve: Serve, port: int) -> None:
    server = serve(f"--admin-port={port}")
    assert request("GET", f"{server.url}/").status == 400
    answer = request("GET", f"http://127.0.0.1:{port}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    checked = subprocess.run(
        [need("promtool"), "check", "metrics"],
        input=answer.body,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


LABELS = {"le", "python", "reason", "result", "status", "version"}


def test_no_label_holds_what_has_no_bound(serve: Serve, port: int) -> None:
    server = serve(f"--admin-port={port}")
    with Subscriber(server.url, "secret-channel"):
        publish(server.url, "secret-channel", "x")
        text = request("GET", f"http://127.0.0.1:{port}/metrics").body.decode()
    assert "secret" not in text
    assert "127.0.0.1" not in text
    assert set(re.findall(r"[{,]([a-z]+)=", text)) <= LABELS


class Prometheus(Process):
    """A Prometheus that scrapes one target each second."""

    name = "prometheus"

    def __init__(self, directory: Path, target: int) -> None:
        super().__init__(directory, cwd=directory)
        self.port = free_port()
        self.program = need("prometheus")
        (directory / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s}\n"
            f"scrape_configs: [{{job_name: sse, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}]\n"
        )

    def argv(self) -> list[str]:
        where = [f"--web.listen-address=127.0.0.1:{self.port}", f"--storage.tsdb.path={self.directory}/data"]
        return [self.program, f"--config.file={self.directory}/prometheus.yml", *where]

    def is_ready(self) -> bool:
        """Not when it accepts connections: until then it answers 503."""
        return accepts(self.port) and request("GET", f"http://127.0.0.1:{self.port}/-/ready").status == 200

    def value(self, expression: str) -> float | None:
        """What it knows of this."""
        url = f"http://127.0.0.1:{self.port}/api/v1/query?query={quote(expression)}"
        result = json.loads(request("GET", url).body)["data"]["result"]
        return float(result[0]["value"][1]) if result else None


def test_prometheus_scrapes_it(serve: Serve, port: int, tmp_path: Path) -> None:
    server = serve(f"--admin-port={port}")
    with Prometheus(tmp_path, port) as prometheus, Subscriber(server.url), Subscriber(server.url):
        publish(server.url, "base", "x")
        until(lambda: prometheus.value("cyclone_sse_subscribers") == 2, "two subscribers")
        until(lambda: prometheus.value("cyclone_sse_deliveries_total") == 2, "two deliveries")
        assert prometheus.value("up") == 1


def test_health_and_readiness(serve: Serve, port: int) -> None:
    server = serve(f"--admin-port={port}", "--drain=600")
    admin = f"http://127.0.0.1:{port}"
    assert request("GET", f"{admin}/healthz").json == {"status": "ok", "version": __version__}
    assert request("GET", f"{admin}/readyz").json == {"status": "ready"}
    assert request("GET", f"{admin}/nowhere").status == 404
    assert request("GET", f"{server.url}/metrics").status == 404, "not on the public port"
    with Subscriber(server.url, "news"), Subscriber(server.url, "news"):
        assert request("GET", f"{admin}/stats").json == [["news", 2]]
        server.send_signal(signal.SIGTERM)
        until(lambda: not accepts(server.port), "the port to be closed")
        answer = request("GET", f"{admin}/readyz")
        assert (answer.status, answer.json) == (503, {"status": "not ready", "reasons": ["draining"]})
        assert request("GET", f"{admin}/healthz").status == 200


def test_what_watches_the_server_does_not_fill_its_log(serve: Serve, port: int) -> None:
    server = serve(f"--admin-port={port}")
    for path in ("healthz", "metrics?token=secret", "nowhere"):
        request("GET", f"http://127.0.0.1:{port}/{path}")
    server.stop()
    assert "GET" not in server.log
    assert "secret" not in server.log


def test_not_ready_while_the_broker_is_away(serve: Serve, port: int, redis_server: RedisServer) -> None:
    server = serve("--broker=redis", f"--redis-port={redis_server.port}", f"--admin-port={port}")
    admin = f"http://127.0.0.1:{port}"
    until(lambda: request("GET", f"{admin}/readyz").status == 200, "it to be ready")
    redis_server.kill()
    until(lambda: request("GET", f"{admin}/readyz").status == 503, "it to notice")
    assert request("GET", f"{admin}/readyz").json["reasons"] == ["broker away"]
    assert figures(port)["broker_connected"] == 0
    redis_server.start()
    until(lambda: request("GET", f"{admin}/readyz").status == 200, "it to be back")
    until(lambda: figures(port)["broker_reconnects_total"] == 1, "the figure")
    server.stop()


def test_each_worker_has_a_port_of_its_own(serve: Serve, redis_server: RedisServer) -> None:
    port, second = free_ports(2)
    server = serve(
        "--broker=redis", f"--redis-port={redis_server.port}", "--workers=2", f"--admin-port={port}"
    )
    readers = [Subscriber(server.url).wait_open() for _ in range(30)]
    counts = [figures(each)["subscribers"] for each in (port, second)]
    assert sum(counts) == 30
    assert all(counts)
    for reader in readers:
        reader.close()

"""What comes along to run the server: systemd's units, logrotate, the Dockerfile, Compose, Kubernetes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from cyclone_sse.options import OPTIONS
from tests.harness.patience import PATIENCE
from tests.harness.process import ROOT, need

EXTRAS = ROOT / "extras"
EXPOSURE = 3.0  # what `systemd-analyze security` may say at most: 10 is a root shell, 0 can do nothing


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A directory with the units, whose program exists here."""
    for path in EXTRAS.glob("cyclone-sse*.*"):
        if path.suffix in (".service", ".socket"):
            text = path.read_text().replace("/usr/local/bin/cyclone-sse", "/bin/true")
            (tmp_path / path.name).write_text(text)
    return tmp_path


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Ask systemd about units that are not installed."""
    return subprocess.run(
        [need("systemd-analyze"), *words], capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def test_systemd_understands_the_units(units: Path) -> None:
    names = ["cyclone-sse.service", "cyclone-sse.socket", "cyclone-sse@8888.service"]
    verified = analyze("verify", *[units / name for name in names])
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


@pytest.mark.parametrize("name", ["cyclone-sse.service", "cyclone-sse@.service"])
def test_the_service_may_do_little(units: Path, name: str) -> None:
    told = analyze("security", "--offline=true", "--no-pager", units / name).stdout
    found = re.search(r"exposure level for .*: ([0-9.]+)", told)
    assert found, told
    assert float(found[1]) < EXPOSURE


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, EXTRAS / "Dockerfile"], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_dockerfile_sets_options_that_exist() -> None:
    named = set(re.findall(r"CYCLONE_SSE_[A-Z_]+", (EXTRAS / "Dockerfile").read_text()))
    assert named <= {row.variable for row in OPTIONS}


@pytest.mark.parametrize("name", ["cyclone-sse.service", "cyclone-sse@.service"])
def test_the_service_notifies_and_has_a_directory_for_its_socket(name: str) -> None:
    lines = (EXTRAS / name).read_text().splitlines()
    instance = "/%i" if "@" in name else ""
    assert {"Type=notify", "NotifyAccess=main", "WatchdogSec=30", "Group=www-data"} <= set(lines)
    assert f"RuntimeDirectory=cyclone-sse{instance}" in lines


def test_each_server_of_the_template_reads_its_own_options_last() -> None:
    text = (EXTRAS / "cyclone-sse@.service").read_text()
    files = re.findall(r"^EnvironmentFile=-(.*)$", text, re.MULTILINE)
    assert files == ["/etc/cyclone-sse.env", "/etc/cyclone-sse-%i.env"]
    ports = re.findall(r"cyclone-sse@([0-9]+)", text + (ROOT / "docs" / "running.md").read_text())
    assert set(ports) == {"8880", "8881"}, "8889 is the admin port of the other pages"


def test_logrotate_understands_its_sample(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "sse.log").write_text("x")
    sample = tmp_path / "sample"
    sample.write_text(
        (EXTRAS / "cyclone-sse.logrotate").read_text().replace("/var/log/cyclone-sse", str(logs))
    )
    done = subprocess.run(
        [need("logrotate"), "--debug", "--state", tmp_path / "state", sample],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr


def variables(value: Any) -> set[str]:
    """All names of options in a document."""
    return set(re.findall(r"CYCLONE_SSE_[A-Z_]+", str(value)))


def test_compose_starts_what_it_says() -> None:
    compose = yaml.safe_load((EXTRAS / "compose.yml").read_text())
    services = compose["services"]
    assert set(services) == {"redis", "server-1", "server-2", "application", "nginx", "prometheus"}
    assert variables(compose) <= {row.variable for row in OPTIONS}
    for name in ("server-1", "server-2"):
        environment = services[name]["environment"]
        grace = int(services[name]["stop_grace_period"].rstrip("s"))
        assert grace > int(environment["CYCLONE_SSE_DRAIN"]) + int(environment["CYCLONE_SSE_DRAIN_DELAY"])
        assert (EXTRAS / services[name]["build"]["context"] / services[name]["build"]["dockerfile"]).exists()
    for service in services.values():
        for each in service.get("configs", ()):
            assert each["source"] in compose["configs"]
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in compose["volumes"] or (EXTRAS / source).exists()
    compile(compose["configs"]["application"]["content"], "application.py", "exec")
    assert yaml.safe_load(compose["configs"]["prometheus"]["content"])["rule_files"]


def test_nginx_understands_the_part_of_compose(tmp_path: Path) -> None:
    compose = yaml.safe_load((EXTRAS / "compose.yml").read_text())
    site = compose["configs"]["nginx"]["content"].replace("$$", "$").replace("listen 80;", "listen 18080;")
    for name in ("server-1", "server-2", "application"):
        site = site.replace(f"{name}:", "127.0.0.1:")
    file = tmp_path / "nginx.conf"
    file.write_text(f"pid {tmp_path}/pid; events {{}} http {{ access_log off; {site} }}")
    done = subprocess.run(
        [need("nginx"), "-t", "-p", tmp_path, "-e", "stderr", "-c", file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_kubernetes_manifest_drains_before_it_is_killed() -> None:
    documents = {each["kind"]: each for each in yaml.safe_load_all((EXTRAS / "kubernetes.yml").read_text())}
    assert set(documents) == {"Deployment", "Service", "PodDisruptionBudget"}
    assert variables(documents) <= {row.variable for row in OPTIONS}
    pod = documents["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    drain = int(environment["CYCLONE_SSE_DRAIN"]) + int(environment["CYCLONE_SSE_DRAIN_DELAY"])
    sleep = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > drain + sleep
    assert pod["enableServiceLinks"] is False
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    exposed = re.findall(r"^EXPOSE (.*)$", (EXTRAS / "Dockerfile").read_text(), re.M)
    assert exposed == [" ".join(map(str, ports.values()))]

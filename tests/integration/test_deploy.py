"""What comes along to run the server: systemd's units, the environment file, the Dockerfile."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cyclone_sse.options import OPTIONS
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
        [need("systemd-analyze"), *words], capture_output=True, text=True, timeout=60, check=False
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
        [hadolint, EXTRAS / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_dockerfile_sets_options_that_exist() -> None:
    named = set(re.findall(r"CYCLONE_SSE_[A-Z_]+", (EXTRAS / "Dockerfile").read_text()))
    assert named <= {row.variable for row in OPTIONS}

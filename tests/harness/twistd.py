"""twistd of this environment, run to its end: by servers that must not start, and for checks of options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.harness.patience import PATIENCE
from tests.harness.process import ROOT

TWISTD = Path(sys.executable).with_name("twistd")


def run_twistd(directory: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run twistd with the plugin of this checkout in a directory, until it ends."""
    return subprocess.run(
        [TWISTD, *words],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def run_plugin(directory: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the plugin in the foreground with these options, until it ends."""
    return run_twistd(directory, "-n", "--pidfile=", "cyclone-sse", *options, **env)

"""The Django project of docs/recipes, on a free port and with a database of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.harness.patience import PATIENCE
from tests.harness.process import ROOT, need
from tests.harness.sites import Site

FOLDER = ROOT / "docs" / "recipes"


class PhpRecipe(Site):
    """The long job in PHP, with PHP's own server, as the page starts it."""

    name = "php"

    def __init__(self, directory: Path, push_url: str, sse_url: str, port: int) -> None:
        super().__init__(directory, push_url, port)
        self.env |= {"SSE_SERVER": push_url, "SSE_URL": sse_url}
        self.program = need("php")

    def argv(self) -> Sequence[str]:
        sessions = f"session.save_path={self.directory}"
        folder = str(FOLDER / "php")
        return [self.program, "-d", sessions, "-S", f"127.0.0.1:{self.port}", "-t", folder]


class Recipes(Site):
    """The project. `sse_url` is where its pages find the streams."""

    name = "recipes"

    def __init__(self, directory: Path, push_url: str, sse_url: str, port: int) -> None:
        super().__init__(directory, push_url, port)
        self.env |= {
            "DATABASE": str(directory / "recipes.sqlite"),
            "SSE_SERVER": push_url,
            "SSE_URL": sse_url,
            "PYTHONPATH": str(ROOT / "clients" / "python"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [*self._manage(), "migrate", "--run-syncdb"]
        subprocess.run(command, env=os.environ | self.env, check=True, capture_output=True, timeout=PATIENCE)

    def run(self, code: str) -> str:
        """Run code with the settings of the project; returns what it prints."""
        env = os.environ | self.env | {"DJANGO_SETTINGS_MODULE": "project.settings"}
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, env=env, cwd=FOLDER, check=True, stdout=subprocess.PIPE, text=True, timeout=PATIENCE
        )
        return done.stdout

    def argv(self) -> Sequence[str]:
        return [*self._manage(), "runserver", "--noreload", f"127.0.0.1:{self.port}"]

    def _manage(self) -> list[str]:
        return [sys.executable, str(FOLDER / "manage.py")]

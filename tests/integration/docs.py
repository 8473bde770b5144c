"""What the pages in ``docs/`` show: their files by name, and their commands."""

from __future__ import annotations

import re
from pathlib import Path

from tests.integration.process import ROOT

_BLOCK = re.compile(r"^([ ]*)```(\w+)(?: (\S+))?\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


def _blocks(page: str) -> list[tuple[str, str, str]]:
    """Language, file name and text of each block of a page."""
    found = _BLOCK.findall((ROOT / "docs" / page).read_text())
    return [(kind, name, re.sub(f"^{margin}", "", text, flags=re.M)) for margin, kind, name, text in found]


def shown(page: str, name: str, kind: str) -> str:
    """The block of this language that stands for a file of this name."""
    (text,) = [text for language, title, text in _blocks(page) if (language, title) == (kind, name)]
    return text


def write_shown(page: str, name: str, directory: Path, kind: str = "python") -> Path:
    """That file, below a directory."""
    path = directory / name
    path.write_text(shown(page, name, kind))
    return path


def commands(page: str) -> list[str]:
    """The commands of a page; a block that exports something is one."""
    lines: list[str] = []
    for kind, _, text in _blocks(page):
        if kind == "sh":
            lines += [text.strip()] if text.startswith("export ") else text.splitlines()
    return lines

"""What README.md and the pages in ``docs/`` show: their files by name, and their commands."""

from __future__ import annotations

import re
from pathlib import Path

from tests.harness.process import ROOT

_BLOCK = re.compile(r"^([ ]*)```(\w+)(?: (\S+))?\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


def page_path(page: str) -> Path:
    """Where a page is: the names of those in the root are in capitals; a path is below the root."""
    if "/" in page:
        return ROOT / page
    return ROOT / page if page.partition(".")[0].isupper() else ROOT / "docs" / page


def pages() -> list[str]:
    """The names of all pages."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    clients = [str(path.relative_to(ROOT)) for path in ROOT.glob("clients/*/README.md")]
    return sorted([path.name for path in found] + clients)


def _blocks(page: str) -> list[tuple[str, str, str]]:
    """Language, file name and text of each block of a page."""
    found = _BLOCK.findall(page_path(page).read_text())
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
    """The commands of a page, without their comments; a block that exports something is one."""
    lines: list[str] = []
    for kind, _, text in _blocks(page):
        if kind == "sh":
            whole = [text.strip()] if text.startswith("export ") else text.splitlines()
            lines += [line.partition("  #")[0].strip() for line in whole]
    return [line for line in lines if line]


def bodies(page: str) -> list[str]:
    """The JSON that it shows."""
    return [text.strip() for kind, _, text in _blocks(page) if kind == "json"]


def html(page: str) -> list[str]:
    """The pages and scripts for a browser that it shows."""
    return [text for kind, _, text in _blocks(page) if kind == "html"]

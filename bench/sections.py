"""The report is one file that two programs write: each replaces its own sections and keeps the other's."""

from __future__ import annotations

from pathlib import Path


def after(path: Path, heading: str) -> str:
    """All sections behind the one with that heading, with the line break before them; "" without a file."""
    if not path.exists():
        return ""
    _, _, rest = path.read_text().partition(f"\n{heading}\n")
    _, mark, others = rest.partition("\n## ")
    return mark + others


def put_last(path: Path, heading: str, text: str) -> None:
    """Put this section at the end of the file, in place of an earlier one with its heading."""
    kept = path.read_text().partition(f"\n{heading}\n")[0] if path.exists() else "# Benchmark"
    path.write_text(f"{kept.rstrip()}\n\n{heading}\n\n{text}")

"""docs/architecture.svg, drawn from the table of imports and from the imports themselves by `make docs`.

Each part is a box with its modules, in the rows of ``LAYERS``: a module imports only from lower rows. An
arrow means that a part imports another; arrows that follow from others are omitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap

from tests.unit.test_imports import LAYERS, LEVEL, files, imports, own

USERS, BASE = "cyclone_sse", "base"  # the two parts of the root: for users, and for all parts
ABOUT = {
    "daemon": "one process or several: options, sockets, start, stop, figures",
    USERS: "what users import: the application and its handlers",
    "access": "what clients and publishers may do",
    "http": "bytes to requests, and answers",
    "brokers": "where messages come from",
    "delivery": "ids, history, and which client gets which bytes",
    BASE: "plain Python that all parts stand on",
}
WIDTH, MARGIN, GAP, LINE, TOP = 900, 20, 28, 18, 48  # pixels
GLYPH = 7.4  # approximate width of a character of a row, in pixels


@dataclass(frozen=True, slots=True)
class Box:
    """The position, the size and the text of a part in the picture."""

    part: str
    x: float
    y: float
    width: float
    height: float
    lines: list[str]


def part_of(module: str) -> str:
    """The part of a module."""
    if module == "__main__":
        return "daemon"
    part = module.split(".", maxsplit=1)[0]
    if part in ABOUT and part != BASE and (("." in module) or part == module):
        return part
    return BASE if LEVEL[module] >= LEVEL["errors"] else USERS


def rows() -> dict[str, list[list[str]]]:
    """The modules of each part, row by row, from the top."""
    found: dict[str, list[list[str]]] = {part: [] for part in ABOUT}
    for level in LAYERS:
        for part, lines in found.items():
            names = sorted(
                module for module in level if module and part_of(module) == part and module != part
            )
            if names:
                lines.append([name.removeprefix(f"{part}.") for name in names])
    return found


def knows() -> dict[str, set[str]]:
    """The parts that each part imports."""
    found: dict[str, set[str]] = {part: set() for part in ABOUT}
    for module, path in files().items():
        for name in imports(path):
            if name.split(".")[0] == "cyclone_sse" and own(name) and module:
                found[part_of(module)].add(part_of(own(name)))
    return {part: others - {part} for part, others in found.items()}


def arrows(known: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """The imports between parts that do not follow from others."""

    def reach(part: str) -> set[str]:
        return known[part].union(*(reach(other) for other in known[part]))

    return [
        (part, other)
        for part in known
        for other in sorted(known[part])
        if not any(other in reach(between) for between in known[part] - {other})
    ]


def wrapped(lines: Sequence[Sequence[str]], width: float) -> list[str]:
    """The rows as text; a row that is too long for the box continues in an indented line."""
    return [
        part
        for names in lines
        for part in wrap(" · ".join(names), int(width / GLYPH), subsequent_indent="  ")
    ]


def height(lines: Sequence[str]) -> float:
    """The height of a box with these lines."""
    return TOP + LINE * len(lines) + 6


def boxes(held: Mapping[str, list[list[str]]]) -> list[Box]:
    """The boxes of the parts, in bands; the three parts that do not import each other are side by side."""
    whole, y = WIDTH - 2 * MARGIN, float(MARGIN)
    found = []
    for band in (["daemon"], [USERS], ["access", "http", "brokers"], ["delivery"], [BASE]):
        width = (whole - GAP * (len(band) - 1)) / len(band)
        lines = [wrapped(held[part], width - 24) for part in band]
        high = max(map(height, lines))
        for column, part in enumerate(band):
            found.append(Box(part, MARGIN + column * (width + GAP), y, width, high, lines[column]))
        y += high + GAP
    return found


def draw(box: Box) -> str:
    """The SVG of a box with its text."""
    x, y = box.x + 12, box.y + 20
    text = [
        f"<rect x='{box.x:g}' y='{box.y:g}' width='{box.width:g}' height='{box.height:g}' rx='8' "
        "class='part'/>",
        f"<text x='{x:g}' y='{y:g}' class='name'>{escape(box.part)}</text>",
        f"<text x='{x:g}' y='{y + 16:g}' class='about'>{escape(ABOUT[box.part])}</text>",
    ]
    for number, line in enumerate(box.lines):
        y = box.y + TOP + 10 + LINE * number
        indent = 12 * (line != line.lstrip())
        text.append(f"<text x='{x + indent:g}' y='{y:g}' class='row'>{escape(line.strip())}</text>")
    return "\n".join(text)


def arrow(upper: Box, lower: Box) -> str:
    """The SVG of an arrow from one part down to another."""
    narrow = min(upper, lower, key=lambda box: box.width)
    x = narrow.x + narrow.width / 2
    start, end = upper.y + upper.height, lower.y - 3
    return f"<path d='M{x:g} {start:g}V{end:g}' class='arrow' marker-end='url(#head)'/>"


STYLE = """\
<style>
  .part { fill: #f4f6f8; stroke: #7a8794 }
  .name { font: bold 14px system-ui, sans-serif; fill: #1d2733 }
  .about { font: 11px system-ui, sans-serif; fill: #55616d }
  .row { font: 12px ui-monospace, monospace; fill: #1d2733 }
  .arrow { stroke: #3b6ea5; stroke-width: 1.5; fill: none }
  #head path { fill: #3b6ea5 }
</style>
<defs><marker id='head' viewBox='0 0 8 8' refX='6' refY='4' markerWidth='8' markerHeight='8' orient='auto'>
<path d='M0 0L8 4L0 8z'/></marker></defs>"""


def picture() -> str:
    """The SVG of the whole picture."""
    where = {box.part: box for box in boxes(rows())}
    total = where[BASE].y + where[BASE].height + MARGIN
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {total:g}' role='img'>",
        "<title>The parts of cyclone_sse and what they import, from the top layer to the base</title>",
        STYLE,
        f"<rect width='{WIDTH}' height='{total:g}' fill='white'/>",
        *map(draw, where.values()),
        *(arrow(where[part], where[other]) for part, other in arrows(knows())),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    print(picture(), end="")

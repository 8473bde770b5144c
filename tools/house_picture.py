"""docs/architecture.svg, drawn from the table of imports and from the imports themselves by `make docs`.

Each room is a box with its modules, in the rows of ``HOUSE``: a module imports only from lower rows. An arrow
means that a room imports another; arrows that follow from others are omitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap

from tests.unit.test_imports import HOUSE, LEVEL, files, imports, own

USERS, GROUND = "cyclone_sse", "ground"  # the two parts of the root: for users, and for all rooms
ABOUT = {
    "daemon": "one process or several: options, sockets, start, stop, figures",
    USERS: "what users import: the application and its handlers",
    "access": "what clients and publishers may do",
    "http": "bytes to requests, and answers",
    "brokers": "where messages come from",
    "delivery": "ids, history, and which client gets which bytes",
    GROUND: "plain Python that all parts stand on",
}
WIDTH, MARGIN, GAP, LINE, TOP = 900, 20, 28, 18, 48  # pixels
GLYPH = 7.4  # approximate width of a character of a row, in pixels


@dataclass(frozen=True, slots=True)
class Box:
    """The position, the size and the text of a room in the picture."""

    room: str
    x: float
    y: float
    width: float
    height: float
    lines: list[str]


def room_of(module: str) -> str:
    """The room of a module."""
    if module == "__main__":
        return "daemon"
    room = module.split(".", maxsplit=1)[0]
    if room in ABOUT and room != GROUND and (("." in module) or room == module):
        return room
    return GROUND if LEVEL[module] >= LEVEL["errors"] else USERS


def rows() -> dict[str, list[list[str]]]:
    """The modules of each room, row by row, from the top."""
    found: dict[str, list[list[str]]] = {room: [] for room in ABOUT}
    for level in HOUSE:
        for room, lines in found.items():
            names = sorted(
                module for module in level if module and room_of(module) == room and module != room
            )
            if names:
                lines.append([name.removeprefix(f"{room}.") for name in names])
    return found


def knows() -> dict[str, set[str]]:
    """The rooms that each room imports."""
    found: dict[str, set[str]] = {room: set() for room in ABOUT}
    for module, path in files().items():
        for name in imports(path):
            if name.split(".")[0] == "cyclone_sse" and own(name) and module:
                found[room_of(module)].add(room_of(own(name)))
    return {room: others - {room} for room, others in found.items()}


def arrows(known: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """The imports between rooms that do not follow from others."""

    def reach(room: str) -> set[str]:
        return known[room].union(*(reach(other) for other in known[room]))

    return [
        (room, other)
        for room in known
        for other in sorted(known[room])
        if not any(other in reach(between) for between in known[room] - {other})
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
    """The boxes of the rooms, in bands; the three rooms that do not import each other are side by side."""
    whole, y = WIDTH - 2 * MARGIN, float(MARGIN)
    found = []
    for band in (["daemon"], [USERS], ["access", "http", "brokers"], ["delivery"], [GROUND]):
        width = (whole - GAP * (len(band) - 1)) / len(band)
        lines = [wrapped(held[room], width - 24) for room in band]
        high = max(map(height, lines))
        for column, room in enumerate(band):
            found.append(Box(room, MARGIN + column * (width + GAP), y, width, high, lines[column]))
        y += high + GAP
    return found


def draw(box: Box) -> str:
    """The SVG of a box with its text."""
    x, y = box.x + 12, box.y + 20
    text = [
        f"<rect x='{box.x:g}' y='{box.y:g}' width='{box.width:g}' height='{box.height:g}' rx='8' "
        "class='room'/>",
        f"<text x='{x:g}' y='{y:g}' class='name'>{escape(box.room)}</text>",
        f"<text x='{x:g}' y='{y + 16:g}' class='about'>{escape(ABOUT[box.room])}</text>",
    ]
    for number, line in enumerate(box.lines):
        y = box.y + TOP + 10 + LINE * number
        indent = 12 * (line != line.lstrip())
        text.append(f"<text x='{x + indent:g}' y='{y:g}' class='row'>{escape(line.strip())}</text>")
    return "\n".join(text)


def arrow(upper: Box, lower: Box) -> str:
    """The SVG of an arrow from one room down to another."""
    narrow = min(upper, lower, key=lambda box: box.width)
    x = narrow.x + narrow.width / 2
    start, end = upper.y + upper.height, lower.y - 3
    return f"<path d='M{x:g} {start:g}V{end:g}' class='arrow' marker-end='url(#head)'/>"


STYLE = """\
<style>
  .room { fill: #f4f6f8; stroke: #7a8794 }
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
    where = {box.room: box for box in boxes(rows())}
    total = where[GROUND].y + where[GROUND].height + MARGIN
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {total:g}' role='img'>",
        "<title>The rooms of cyclone_sse and what they import, from the roof to the ground</title>",
        STYLE,
        f"<rect width='{WIDTH}' height='{total:g}' fill='white'/>",
        *map(draw, where.values()),
        *(arrow(where[room], where[other]) for room, other in arrows(knows())),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    print(picture(), end="")

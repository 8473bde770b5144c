"""A line plot as SVG: a dozen elements, so no library."""

from __future__ import annotations

from collections.abc import Mapping

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 720, 400, 70, 50, 40
COLOURS = {"limit": "#888888", "earlier": "#e59866", "cyclone-sse": "#c0392b", "nchan": "#2471a3"}

Points = Mapping[int, float]


def plot(title: str, x_title: str, y_title: str, lines: Mapping[str, Points]) -> str:
    """The lines, each a mapping of x to y, over axes that begin at zero."""
    right, top = (
        max(max(points) for points in lines.values()),
        _round_up(max(max(points.values()) for points in lines.values())),
    )

    def x(value: float) -> float:
        return round(LEFT + value / right * (WIDTH - LEFT - 130), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - TOP), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{title}</text>',
        f'<text x="{x(right / 2)}" y="{HEIGHT - 10}" text-anchor="middle">{x_title}</text>',
        f'<text transform="translate(16 {y(top / 2)}) rotate(-90)" text-anchor="middle">{y_title}</text>',
    ]
    for step in range(6):
        value = top * step / 5
        parts += [
            f'<path d="M{LEFT} {y(value)}H{x(right)}" stroke="#dddddd"/>',
            f'<text x="{LEFT - 8}" y="{y(value) + 4}" text-anchor="end">{value:g}</text>',
        ]
    for value in sorted({place for points in lines.values() for place in points}):
        parts.append(f'<text x="{x(value)}" y="{y(0) + 18}" text-anchor="middle">{value:,}</text>')
    for name, points in lines.items():
        path = " ".join(f"{x(place)},{y(points[place])}" for place in sorted(points))
        colour = COLOURS[name]
        end = max(points)
        parts += [
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
            *(
                f'<circle cx="{x(at)}" cy="{y(value)}" r="3" fill="{colour}"/>'
                for at, value in points.items()
            ),
            f'<text x="{x(end) + 8}" y="{y(points[end]) + 4}" fill="{colour}">{name}</text>',
        ]
    return "\n".join([*parts, "</svg>\n"])


def _round_up(value: float) -> float:
    """The next number that divides into five round steps."""
    scale = 1.0
    while scale * 10 < value:
        scale *= 10
    return next(scale * step for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if scale * step >= value)

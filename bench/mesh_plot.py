"""One small chart as SVG text: seconds over the number of members, which grows by factors."""

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, log10

COLOURS = ("#3b6fb6", "#e08a2e", "#5a9e6f", "#b0493f")

WIDTH, HEIGHT = 860, 360
LEFT, RIGHT, TOP, BOTTOM = 52, 150, 24, 40


def line_chart(lines: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """``lines``: by name, seconds for numbers of members."""
    members = sorted({count for line in lines.values() for count, _ in line})
    top = ceil(max(seconds for line in lines.values() for _, seconds in line) / 2) * 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT - 40, 14, "seconds"),
        _text(WIDTH - RIGHT, HEIGHT - 4, "members", "end"),
    ]

    def across(count: int) -> float:
        return LEFT + log10(count / members[0]) / log10(members[-1] / members[0]) * (WIDTH - LEFT - RIGHT)

    def up(seconds: float) -> float:
        return HEIGHT - BOTTOM - seconds / top * (HEIGHT - TOP - BOTTOM)

    for seconds in range(0, top + 1, 2):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(seconds):.1f}" y2="{up(seconds):.1f}" stroke="#dddddd"/>')
        parts.append(_text(LEFT - 8, up(seconds) + 4, str(seconds), "end"))
    parts += [_text(across(count), HEIGHT - BOTTOM + 18, str(count), "middle") for count in members]
    for index, (name, line) in enumerate(lines.items()):
        colour = COLOURS[index % len(COLOURS)]
        points = " ".join(f"{across(count):.1f},{up(seconds):.1f}" for count, seconds in line)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{across(c):.1f}" cy="{up(s):.1f}" r="3.5" fill="{colour}"/>' for c, s in line]
        parts.append(f'<text x="{WIDTH - RIGHT + 10}" y="{up(line[-1][1]) + 4:.1f}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#222222">{escape(words)}</text>'

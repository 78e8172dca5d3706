"""Two small charts as SVG text: bars in groups with a line for their spread, and points with their names.

Own colours and text sizes, a white ground: it has to be readable in a page of documentation, light or dark.
"""

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil

import numpy as np

COLOURS = ("#3b6fb6", "#e08a2e", "#5a9e6f", "#8a63a8", "#b0493f")

WIDTH, HEIGHT = 860, 360
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 44, 34

TICKS_MAX = 7


def bar_chart(bars: Mapping[str, Sequence[tuple[float, float]]], members: Sequence[str]) -> str:
    """``bars``: by group, one (mean, spread) in percent for each of ``members``; negative means are drawn as nothing."""
    highest = max(1.0, *(mean + spread for group in bars.values() for mean, spread in group))
    tick = ceil(highest / TICKS_MAX)
    top = ceil(highest / tick) * tick
    parts = [_axis(top, tick), _legend(members)]
    slot = (WIDTH - LEFT - RIGHT) / len(bars)
    bar = slot * 0.8 / len(members)
    for place, (name, group) in enumerate(bars.items()):
        start = LEFT + place * slot + slot * 0.1
        for index, (mean, spread) in enumerate(group):
            parts.append(_bar(start + index * bar, bar, mean, spread, top, COLOURS[index % len(COLOURS)]))
        parts.append(_text(start + slot * 0.4, HEIGHT - BOTTOM + 18, name, anchor="middle"))
    return _document(parts)


def scatter_chart(points: Mapping[str, tuple[float, float]], across: str) -> str:
    """``points``: by name, what is ``across`` and the loss in percent. Names stand beside their points, one above the other."""
    highest = max(1.0, *(loss for _, loss in points.values()))
    tick = ceil(highest / TICKS_MAX)
    top = ceil(highest / tick) * tick
    widest = max(0.1, *(x for x, _ in points.values())) * 1.3
    parts = [_axis(top, tick), _text(WIDTH - RIGHT, HEIGHT - 2, across, anchor="end")]
    for value in np.arange(0, widest, 0.25):
        x = _across(float(value), widest)
        parts.append(_text(x, HEIGHT - BOTTOM + 16, f"{value:g}", anchor="middle"))
    free_y: dict[float, float] = {}
    for index, (name, (seconds, loss)) in enumerate(sorted(points.items(), key=lambda item: -item[1][1])):
        x, y = _across(seconds, widest), HEIGHT - BOTTOM - _height(loss, top)
        beside = max(y + 4, free_y.get(seconds, 0.0) + 13)
        free_y[seconds] = beside
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{COLOURS[index % len(COLOURS)]}"/>')
        parts.append(_text(x + 8, beside, f"{name} {loss:.1f}"))
    return _document(parts)


def _across(value: float, widest: float) -> float:
    return LEFT + 10 + value / widest * (WIDTH - LEFT - RIGHT - 10)


def _document(parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n'
    )
    return head + "\n".join(parts) + "\n</svg>\n"


def _height(value: float, top: float) -> float:
    return max(0.0, value) / top * (HEIGHT - TOP - BOTTOM)


def _bar(left: float, width: float, mean: float, spread: float, top: float, colour: str) -> str:
    ground, middle = HEIGHT - BOTTOM, left + width / 2
    high, low = ground - _height(mean + spread, top), ground - _height(mean - spread, top)
    tall = _height(mean, top)
    return (
        f'<rect x="{left:.1f}" y="{ground - tall:.1f}" width="{width * 0.9:.1f}" height="{tall:.1f}" fill="{colour}"/>'
        f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="{high:.1f}" y2="{low:.1f}" stroke="#333333"/>'
        + _text(middle, high - 4, f"{mean:.1f}", anchor="middle")
    )


def _axis(top: int, tick: int) -> str:
    lines = [_text(LEFT - 40, TOP - 26, "loss against exact best-fit, %")]
    for value in range(0, top + 1, tick):
        y = HEIGHT - BOTTOM - _height(value, top)
        lines.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>')
        lines.append(_text(LEFT - 8, y + 4, str(value), anchor="end"))
    return "\n".join(lines)


def _legend(members: Sequence[str]) -> str:
    parts = []
    for index, name in enumerate(members):
        x = WIDTH - RIGHT - 110 * (len(members) - index)
        parts.append(f'<rect x="{x}" y="8" width="12" height="12" fill="{COLOURS[index % len(COLOURS)]}"/>')
        parts.append(_text(x + 17, 18, name))
    return "\n".join(parts)


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#222222">{escape(words)}</text>'

"""Small drawings for the report as inline SVG, each with its words for those who do not see it.

They need no script, print well, and cost a page of many variants little.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.report.text import number
from deploy.results import Difference

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 560, 180, 52, 30, 10
# Colour-blind safe (Okabe and Ito), as everywhere on the page.
BLUE, ORANGE, LINE, INK = "#0072b2", "#d55e00", "#9aa3af", "#1f2733"
SERIES_COLOURS = (ORANGE, BLUE, "#009e73", "#cc79a7")
# A line of more points is no more to see, but more to load.
MOST_POINTS = 400


@dataclass(frozen=True)
class Series:
    """One line of values over time."""

    name: str
    times_s: Sequence[float]
    values: Sequence[float]


def drawing(parts: Sequence[str], words: str, *, height: int = HEIGHT) -> str:
    """An SVG element that says `words` to screen readers."""
    text = html.escape(words, quote=True)
    return (
        f'<svg role="img" aria-label="{text}" viewBox="0 0 {WIDTH} {height}" class="drawing">'
        f"<title>{text}</title>{''.join(parts)}</svg>"
    )


def label_at(x: float, y: float, text: str, anchor: str = "middle", colour: str = INK) -> str:
    """A word in a drawing."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{html.escape(text)}</text>'


def difference_histogram(found: Difference) -> tuple[str, str]:
    """The drawing of variant minus FP32, and what it says in words."""
    total = sum(found.counts)
    shares = [100 * count / total for count in found.counts]
    beyond = shares[0] + shares[-1]
    words = (
        f"Variant minus {found.to_variant}, over {found.images} images: {number(found.mean_px)} px on average, "
        f"{number(found.mean_abs_px)} px in absolute terms; {number(beyond)} % of the pixels moved by more than "
        f"{found.edges_px[-1]:g} px."
    )
    top = max(shares) or 1.0
    step = (WIDTH - LEFT - 10) / len(shares)
    base = HEIGHT - BOTTOM
    parts = []
    edges = found.edges_px
    between = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(edges)]
    names = [f"below {edges[0]:g}", *between, f"from {edges[-1]:g}"]
    for index, (share, name) in enumerate(zip(shares, names, strict=True)):
        tall = (base - TOP) * share / top
        colour = ORANGE if index in (0, len(shares) - 1) else BLUE
        parts.append(f'<rect x="{LEFT + index * step:.1f}" y="{base - tall:.1f}" width="{max(step - 1, 0.5):.1f}" '
                     f'height="{tall:.1f}" fill="{colour}"><title>{name} px: {share:.2f} %</title></rect>')  # fmt: skip
    parts.append(axis_lines(f"{top:.0f} %"))
    for edge in (found.edges_px[0], found.edges_px[len(found.edges_px) // 2], found.edges_px[-1]):
        at = LEFT + (found.edges_px.index(edge) + 1) * step
        parts.append(label_at(at, HEIGHT - 12, f"{edge:g} px"))
    return drawing(parts, words), words


def axis_lines(top: str) -> str:
    """The two axes and the upper value."""
    base = HEIGHT - BOTTOM
    return (
        f'<path d="M{LEFT} {TOP}V{base}H{WIDTH - 10}" fill="none" stroke="{LINE}"/>'
        + label_at(LEFT - 6, TOP + 10, top, "end")
        + label_at(LEFT - 6, base, "0", "end")
    )


def over_time(series: Sequence[Series], unit: str) -> tuple[str, str]:
    """Lines of one unit over the seconds of a run, from zero, and what they say in words."""
    top = max((max(line.values) for line in series), default=1.0) or 1.0
    end = max((max(line.times_s) for line in series), default=1.0) or 1.0
    base = HEIGHT - BOTTOM
    parts, told = [axis_lines(f"{number(top)} {unit}"), label_at(WIDTH - 10, HEIGHT - 12, f"{end:.0f} s", "end")], []
    for index, line in enumerate(series):
        colour = SERIES_COLOURS[index % len(SERIES_COLOURS)]
        step = max(1, len(line.values) // MOST_POINTS)
        points = " ".join(
            f"{LEFT + (WIDTH - LEFT - 10) * at / end:.1f},{base - (base - TOP) * value / top:.1f}"
            for at, value in list(zip(line.times_s, line.values, strict=True))[::step]
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(label_at(LEFT + 8 + 150 * index, HEIGHT - 12, line.name, "start", colour))
        mean = sum(line.values) / len(line.values)
        told.append(f"{line.name}: {number(mean)} {unit} on average, {number(max(line.values))} {unit} at most")
    words = f"Over {end:.0f} s: {'; '.join(told)}."
    return drawing(parts, words), words

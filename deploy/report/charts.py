"""The plot of latency against accuracy: one figure per device, dataset and metric, as plain Plotly JSON.

Points carry the numbers of the tables. Only entries that have both latency and an average over all images of the
dataset can stand in a plane; references without latency become lines; the rest is named under the plot.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from deploy.report.entries import Entry
from deploy.report.text import label, number, setting
from deploy.summary import METRICS

RUNTIME_COLOURS = {
    "openvino": "#0b6e99", "onnxruntime": "#7a4fbf", "torch": "#b8336a", "tensorrt": "#3b7d23",
    "tensorrt_rtx": "#1c8c7c",
}  # fmt: skip
OTHER_COLOUR, REFERENCE_COLOUR, ESTIMATED_COLOUR = "#8a6d1f", "#5b6470", "#d9730d"
SYMBOLS = {"fp32": "circle", "fp16": "square", "int8": "diamond"}
GRID = "#e6e9ee"
# More than one power of ten between fastest and slowest would crowd the fast ones at the left edge.
LOG_FROM = 8.0
# Points closer than these shares of the axes would print their numbers on top of each other.
TOUCHING_ACROSS, TOUCHING_UP = 0.03, 0.05


def figure(entries: Sequence[Entry], dataset: str, metric: str, *, images: int) -> dict[str, Any]:
    """Data and layout of one plot.

    Args:
        entries: of one device.
        images: how many a complete average covers.
    """
    points = [entry for entry in entries if entry.latency and is_complete(entry, dataset, metric, images=images)]
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in points:
        groups.setdefault((group_name(entry), colour(entry)), []).append(entry)
    labels = point_labels(points, dataset, metric)
    # The legend shows a group with the symbol of its first point: the plain one, where the group has it.
    for members in groups.values():
        members.sort(key=lambda entry: symbol(entry) != "circle")
    traces = [trace(name, tint, members, dataset, metric, labels=labels) for (name, tint), members in groups.items()]
    lines = [
        entry for entry in entries
        if entry.latency is None and entry.model.role == "reference"
        and is_complete(entry, dataset, metric, images=images)
    ]  # fmt: skip
    return {"data": traces, "layout": layout(points, lines, dataset, metric)}


def is_complete(entry: Entry, dataset: str, metric: str, *, images: int) -> bool:
    """Whether its average covers every image, so that it can be compared."""
    return entry.mean(dataset, metric) is not None and len(entry.accuracy(dataset)) == images


def left_out(entries: Sequence[Entry], dataset: str, *, images: int) -> list[str]:
    """Which entries are not in the plot, and why."""
    reasons = []
    for entry in entries:
        missing = []
        if entry.latency is None and entry.model.role == "variant":
            missing.append("latency not measured")
        seen = len(entry.accuracy(dataset))
        if seen == 0:
            missing.append("accuracy not measured")
        elif seen < images:
            missing.append(f"only {seen} of {images} images evaluated")
        elif entry.mean(dataset, "epe_px") is None:
            missing.append("an image without any valid output")
        if missing:
            reasons.append(f"{entry.number} {label(entry)}: {', '.join(missing)}")
    return reasons


def colour(entry: Entry) -> str:
    """By runtime; references and estimates have colours of their own."""
    if entry.kind == "estimated":
        return ESTIMATED_COLOUR
    if entry.model.role == "reference":
        return REFERENCE_COLOUR
    return RUNTIME_COLOURS.get(entry.place.runtime, OTHER_COLOUR)


def symbol(entry: Entry) -> str:
    """By precision of the weights."""
    return SYMBOLS.get(entry.model.precision or "", "circle")


def group_name(entry: Entry) -> str:
    """The legend's word for an entry."""
    if entry.model.role == "reference":
        return f"reference, {entry.kind}"
    return f"{entry.place.runtime}, {entry.kind}"


def point_labels(points: Sequence[Entry], dataset: str, metric: str) -> dict[int, str]:
    """Entry number → text at its point; points that lie on each other share one label, such as "7, 8"."""
    top = max((entry.mean(dataset, metric) or 0.0 for entry in points), default=1.0) or 1.0
    scale = latency_axis(points)
    labels: dict[int, str] = {}
    owners: list[tuple[float, float, int]] = []
    for entry in sorted(points, key=lambda entry: entry.latency.p50_ms if entry.latency else 0.0):
        latency, mean = entry.latency, entry.mean(dataset, metric)
        if latency is None or mean is None:
            continue
        across = along(scale, latency.p50_ms)
        for other_across, other, number_there in owners:
            if across - other_across < TOUCHING_ACROSS and abs(mean - other) < TOUCHING_UP * top:
                labels[number_there] += f", {entry.number}"
                labels[entry.number] = ""
                break
        else:
            owners.append((across, mean, entry.number))
            labels[entry.number] = str(entry.number)
    return labels


def along(scale: dict[str, Any], p50_ms: float) -> float:
    """Where a latency lies on its axis, 0 left and 1 right."""
    low, high = scale["range"]
    return ((math.log10(p50_ms) if scale.get("type") == "log" else p50_ms) - low) / (high - low)


def trace(
    name: str, tint: str, entries: Sequence[Entry], dataset: str, metric: str, *, labels: dict[int, str]
) -> dict[str, Any]:
    """Numbered markers of one group; the whisker reaches to p90."""
    latencies = [entry.latency for entry in entries if entry.latency]
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": name,
        "x": [item.p50_ms for item in latencies],
        "y": [entry.mean(dataset, metric) for entry in entries],
        "text": [labels[entry.number] for entry in entries],
        "textposition": "top center",
        "textfont": {"color": "#1f2733", "size": 12},
        "hovertext": [hover(entry, dataset, metric) for entry in entries],
        "hoverinfo": "text",
        "marker": {
            "size": 14,
            "color": tint,
            "symbol": [symbol(entry) for entry in entries],
            "line": {"color": "#ffffff", "width": 1.5},
        },
        "error_x": {
            "type": "data", "symmetric": False, "array": [item.p90_ms - item.p50_ms for item in latencies],
            "arrayminus": [0.0] * len(latencies), "color": tint, "thickness": 1, "width": 3,
        },
    }  # fmt: skip


def hover(entry: Entry, dataset: str, metric: str) -> str:
    """What the mouse shows; Plotly reads a little HTML in it, so every name is escaped."""
    latency = entry.latency
    lines = [f"<b>{html.escape(label(entry))}</b>"]
    if latency is not None:
        lines.append(f"p50 {number(latency.p50_ms)} ms, p90 {number(latency.p90_ms)} ms, n = {latency.n}")
    lines.append(f"{METRICS[metric]} {number(entry.mean(dataset, metric))}, {entry.kind}")
    lines += [html.escape(part) for part in setting(entry).split(", ")]
    return "<br>".join(lines)


def layout(points: Sequence[Entry], lines: Sequence[Entry], dataset: str, metric: str) -> dict[str, Any]:
    """Axes, and a dashed line for each reference that has no latency."""
    heights = [entry.mean(dataset, metric) or 0.0 for entry in (*points, *lines)]
    shapes, notes = [], []
    for entry in lines:
        level = entry.mean(dataset, metric)
        shapes.append({"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level,
                       "line": {"color": REFERENCE_COLOUR, "width": 1.5, "dash": "dash"}})  # fmt: skip
        notes.append({"xref": "paper", "x": 1, "xanchor": "right", "y": level, "yanchor": "bottom", "showarrow": False,
                      "text": html.escape(f"{entry.number} {entry.model.variant}{entry.coverage_note(dataset)}"),
                      "font": {"color": REFERENCE_COLOUR, "size": 12}})  # fmt: skip
    return {
        "margin": {"l": 56, "r": 16, "t": 12, "b": 48},
        "height": 420,
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#1f2733"},
        "hoverlabel": {"bgcolor": "#ffffff", "bordercolor": "#9aa3af", "align": "left", "font": {"color": "#1f2733"}},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "showlegend": True,
        "xaxis": {**axis("latency p50 per pair, ms (faster is left)"), **latency_axis(points)},
        "yaxis": {
            **axis(f"{METRICS[metric]} (better is down)"),
            "range": [0, 1.15 * max(heights, default=1.0) or 1.0],
        },
        "shapes": shapes,
        "annotations": notes,
    }


def axis(title: str) -> dict[str, Any]:
    """What both axes share."""
    return {"title": {"text": title}, "gridcolor": GRID, "linecolor": "#9aa3af", "zeroline": False, "automargin": True}


def latency_axis(points: Sequence[Entry]) -> dict[str, Any]:
    """From zero, or logarithmic with ticks at 1, 2 and 5 where latencies lie far apart."""
    times_ms = [value for entry in points if entry.latency for value in (entry.latency.p50_ms, entry.latency.p90_ms)]
    low, high = min(times_ms, default=1.0), max(times_ms, default=1.0)
    if low <= 0 or high / low < LOG_FROM:
        return {"range": [0, 1.12 * high]}
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    ticks = [step * 10.0**exponent for exponent in exponents for step in (1, 2, 5)]
    return {
        "type": "log",
        "range": [math.log10(low / 1.4), math.log10(high * 1.4)],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
    }

"""The sensitivity study for people: a table in Markdown and a chart in SVG, from the content of sensitivity.json."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

# Of the chart, in SVG units.
ROW, GAP, NAME_WIDTH, BAR_WIDTH, VALUE_WIDTH, TOP = 22, 10, 230, 380, 90, 64
# Colour-blind safe (Okabe and Ito).
ALONE_COLOUR, REMOVED_COLOUR = "#0072b2", "#e69f00"


def rows(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is drawn and listed for each part, what moves the map most first."""
    fp32, everything = content["fp32"], content["everything"]
    found = []
    for part in content["parts"]:
        alone, without = part["alone"], part["without"]
        found.append(
            {
                "name": part["name"],
                "convolutions": len(part["convolutions"]),
                "kept_by_table": part["kept_by_table"],
                "share_pct": 100 * part["multiply_adds"] / content["multiply_adds"]["all"],
                "moved_alone_px": alone["moved_px"],
                "moved_removed_px": everything["moved_px"] - without["moved_px"],
                "epe_added_px": alone["epe_px"] - fp32["epe_px"],
                "epe_removed_px": everything["epe_px"] - without["epe_px"],
                "bad2_added": alone["bad2_pct"] - fp32["bad2_pct"],
                "bad2_removed": everything["bad2_pct"] - without["bad2_pct"],
                "max_added_px": alone["max_error_px"] - fp32["max_error_px"],
                "max_removed_px": everything["max_error_px"] - without["max_error_px"],
                "far_pct": alone["moved_far_pct"],
            }
        )
    return sorted(found, key=lambda row: -row["moved_alone_px"])


def markdown(content: Mapping[str, Any]) -> str:
    """The study as Markdown."""
    student, calibration = content["student"], content["calibration"]
    lines = [
        f"# What quantising costs in {student['preset']}",
        "",
        f"{len(content['pairs'])} pairs with truth at {content['config']['size']}, max_disp {student['max_disp']}, "
        f"{student['iterations']} refinement steps; {calibration['used']} calibration frames "
        f"({calibration['selection']}, {calibration['method']}); {content['config']['runtime']}. EPE and bad-2 are "
        "means over the pairs, the maximum is over all pixels; moved: mean difference from FP32.",
        "",
        "| graph | EPE px | bad-2 % | max error px | moved px | moved max px | moved > 3 px, % |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, title in (("fp32", "FP32"), ("everything", "all convolutions INT8"), ("default", "the default INT8")):
        lines.append(graph_line(title, content[name]))
    last = content["search"][-1]
    lines += [
        graph_line(f"mixed: {len(last['quantised'])} of {len(last['quantised']) + len(last['keep_float'])} INT8", last),
        "",
        f"## By {content['by']}",
        "",
        "Added: by quantising it alone. Removed: by leaving it alone in float where all others are INT8. A star marks "
        f"a {content['by']} that the table of `calibration/precision.py` keeps in float, wholly or in part.",
        "",
        "| part | convolutions | MACs % | moved px, alone | removed | moved > 3 px, % alone | EPE px, added | "
        "removed | bad-2 points, added | removed | max error px, added | removed |",
        "|---" * 12 + "|",
    ]
    for row in rows(content):
        star = "*" if row["kept_by_table"] else ""
        lines.append(
            f"| {row['name']}{star} | {row['convolutions']} | {row['share_pct']:.1f} | {row['moved_alone_px']:.4f} | "
            f"{row['moved_removed_px']:+.4f} | {row['far_pct']:.3f} | {row['epe_added_px']:+.4f} | "
            f"{row['epe_removed_px']:+.4f} | {row['bad2_added']:+.3f} | {row['bad2_removed']:+.3f} | "
            f"{row['max_added_px']:+.1f} | {row['max_removed_px']:+.1f} |"
        )
    lines += [
        "",
        "## Search",
        "",
        "| taken out of INT8 | EPE px | bad-2 % | moved px | latency / FP32 |",
        "|---" * 5 + "|",
    ]
    for step in content["search"]:
        taken, share = step["taken_out"] or "nothing", step.get("latency_share")
        lines.append(
            f"| {taken} | {step['epe_px']:.4f} | {step['bad2_pct']:.3f} | {step['moved_px']:.4f} | "
            f"{'' if share is None else f'{share:.3f}'} |"
        )
    if content["config"].get("latency_budget") is not None:
        where = content["config"]["latency_on"]
        how = "measured here" if where == "here" else f"estimated for {where}, float parts as FP32"
        lines += ["", f"Latency {how}; budget {content['config']['latency_budget']:g} of FP32's."]
    return "\n".join(lines) + "\n"


def graph_line(title: str, score: Mapping[str, Any]) -> str:
    """One line of the first table."""
    return (
        f"| {title} | {score['epe_px']:.4f} | {score['bad2_pct']:.3f} | {score['max_error_px']:.1f} | "
        f"{score['moved_px']:.4f} | {score['moved_max_px']:.2f} | {score['moved_far_pct']:.3f} |"
    )


def bar_chart(content: Mapping[str, Any]) -> str:
    """How far the map moves by each part, alone and as part of the whole, as SVG."""
    drawn = rows(content)
    longest = max(max(row["moved_alone_px"], row["moved_removed_px"], 1e-9) for row in drawn)
    width, height = NAME_WIDTH + BAR_WIDTH + VALUE_WIDTH, TOP + len(drawn) * (ROW + GAP) + GAP
    title = f"{content['student']['preset']}: mean movement of the disparity by INT8, px"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12" role="img" aria-label="{escape(title)}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{GAP}" y="22" font-size="15">{escape(title)}</text>',
        *legend(0, ALONE_COLOUR, "this part quantised alone"),
        *legend(210, REMOVED_COLOUR, "less when it stays in float and all others are INT8"),
    ]
    for index, row in enumerate(drawn):
        top = TOP + index * (ROW + GAP)
        parts.append(
            f'<text x="{NAME_WIDTH - GAP}" y="{top + 15}" text-anchor="end">{escape(row["name"])}</text>'
        )  # fmt: skip
        for offset, colour, value in (
            (0, ALONE_COLOUR, row["moved_alone_px"]), (ROW // 2, REMOVED_COLOUR, row["moved_removed_px"]),
        ):  # fmt: skip
            length = max(0.0, value) / longest * BAR_WIDTH
            place = f'x="{NAME_WIDTH}" y="{top + offset}" width="{length:.1f}" height="{ROW // 2 - 1}"'
            parts.append(f'<rect {place} fill="{colour}"/>')
            parts.append(
                f'<text x="{NAME_WIDTH + length + 4:.1f}" y="{top + offset + 9}" font-size="9">{value:.4f}</text>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


def legend(offset: int, colour: str, text: str) -> list[str]:
    """A coloured square with its meaning."""
    left = GAP + offset
    return [
        f'<rect x="{left}" y="36" width="10" height="10" fill="{colour}"/>',
        f'<text x="{left + 15}" y="45">{escape(text)}</text>',
    ]

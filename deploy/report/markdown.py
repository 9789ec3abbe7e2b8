"""report.md: the answers, the tables and the provenance, for terminals, reviews and wikis."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from deploy.report.compare import Comparison
from deploy.report.entries import Entry, datasets, mask_note, places, reduction_of
from deploy.report.provenance import facts, other_times, sources
from deploy.report.tables import average_text, main_line
from deploy.report.text import label, place
from deploy.report.verdict import Told, answers
from deploy.summary import METRICS


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|~!])", r"\\\1", " ".join(text.split()))


def markdown(title: str, entries: Sequence[Entry], comparison: Comparison | None = None) -> str:
    """The whole document."""
    parts = [f"# {escape(title)}"]
    for answer in answers(entries):
        parts += [f"**{escape(answer.question)}**", "\n".join(map(sentence, answer.sentences))]
    if comparison is not None:
        parts += comparison_parts(comparison)
    found = datasets(entries)
    for where in places(entries):
        here = [entry for entry in entries if entry.where == where]
        parts += [f"## {escape(where)}", place_table(here, found)]
    for dataset, images in found.items():
        parts += [
            f"## Accuracy on {escape(dataset)}",
            accuracy_note(entries, dataset, images),
            accuracy_table(entries, dataset, images),
        ]
    parts += ["## Provenance", *map(provenance, entries)]
    return "\n\n".join(parts) + "\n"


def sentence(told: Told) -> str:
    """A list item."""
    return f"- {f'**{escape(told.about)}:** ' if told.about else ''}{escape(told.text)}"


def comparison_parts(comparison: Comparison) -> list[str]:
    """What changed against a baseline: a pull request needs no more than what is not the same."""
    count = len(comparison.worse)
    told = f"{count} regression{'s' if count != 1 else ''} beyond noise in {len(comparison.compared)} variants."
    if comparison.lost:
        told += f" Measurements only in the baseline: {len(comparison.lost)}."
    for what, names in (("Only in the baseline", comparison.gone), ("New", comparison.added)):
        if names:
            told += f" {what}: {', '.join(names)}."
    changed = [
        [label(item.entry), check.what, check.before, check.after, check.change, check.judgement]
        for item in comparison.compared
        for check in item.checks
        if check.judgement != "same"
    ]
    head = ["variant", "what", "before", "after", "change", "judgement"]
    return ["## Against the baseline", escape(told), *([table(head, changed)] if changed else [])]


def accuracy_note(entries: Sequence[Entry], dataset: str, images: Sequence[tuple[str, str]]) -> str:
    """How the averages were taken, and over which pixels."""
    return escape(f"{reduction_of(entries, dataset, len(images))}; {mask_note(images)}.")


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells are escaped."""
    rows = [head, ["---"] * len(head), *([escape(cell) for cell in line] for line in lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def place_table(entries: Sequence[Entry], found: dict[str, list[tuple[str, str]]]) -> str:
    """Latency, memory and size; accuracy has tables of its own."""
    with_power = any(entry.power for entry in entries)
    lines = [main_line(entry, found, with_power=with_power) for entry in entries]
    heads = [cell.head for cell in lines[0].cells[1:]]
    body = [
        [str(line.entry.number), line.entry.model.variant, line.entry.model.role, place(line.entry), line.entry.kind,
         *(cell.texts[""] for cell in line.cells[1:])]
        for line in lines
    ]  # fmt: skip
    return table(["#", "variant", "role", "runtime", "kind", *heads], body)


def accuracy_table(entries: Sequence[Entry], dataset: str, images: Sequence[tuple[str, str]]) -> str:
    """All metrics of one dataset."""
    body = []
    for entry in entries:
        averages = [average_text(entry, dataset, metric, images=len(images)) for metric in METRICS]
        body.append([str(entry.number), entry.model.variant, place(entry), *averages])
    return table(["#", "variant", "runtime", *METRICS.values()], body)


def provenance(entry: Entry) -> str:
    """Everything an entry's numbers depend on."""
    lines = [f"### {entry.number} {escape(entry.model.variant)}", ""]
    lines += [f"- {escape(name)}: {escape(value)}" for name, value in (*other_times(entry), *facts(entry))]
    if entry.accuracy_from:
        lines.append(f"- accuracy measured with: {escape(entry.accuracy_from)}")
    for what, stamps in sources(entry):
        told = "; ".join(f"{name} {value}" for name, value in stamps)
        lines.append(f"- {escape(what)}: {escape(told)}")
    return "\n".join(lines)

"""report.md: the verdict, the tables and the provenance, for terminals, reviews and wikis."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from deploy.report.entries import Entry, datasets, mask_note, reduction_of
from deploy.report.provenance import facts, sources
from deploy.report.tables import average_text, main_line
from deploy.report.text import place
from deploy.report.verdict import verdict
from deploy.summary import METRICS


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|~!])", r"\\\1", " ".join(text.split()))


def markdown(title: str, entries: Sequence[Entry]) -> str:
    """The whole document."""
    parts = [f"# {escape(title)}", *map(escape, verdict(entries))]
    found = datasets(entries)
    for device in dict.fromkeys(entry.place.device for entry in entries):
        here = [entry for entry in entries if entry.place.device == device]
        parts += [f"## {escape(device)}", device_table(here, found)]
    for dataset, images in found.items():
        parts += [
            f"## Accuracy on {escape(dataset)}",
            accuracy_note(entries, dataset, images),
            accuracy_table(entries, dataset, images),
        ]
    parts += ["## Provenance", *map(provenance, entries)]
    return "\n\n".join(parts) + "\n"


def accuracy_note(entries: Sequence[Entry], dataset: str, images: Sequence[tuple[str, str]]) -> str:
    """How the averages were taken, and over which pixels."""
    return escape(f"{reduction_of(entries, dataset, len(images))}; {mask_note(images)}.")


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells are escaped."""
    rows = [head, ["---"] * len(head), *([escape(cell) for cell in line] for line in lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def device_table(entries: Sequence[Entry], found: dict[str, list[tuple[str, str]]]) -> str:
    """Latency, memory and size; accuracy has tables of its own."""
    lines = [main_line(entry, found) for entry in entries]
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
    lines += [f"- {escape(name)}: {escape(value)}" for name, value in facts(entry)]
    for what, stamps in sources(entry):
        told = "; ".join(f"{name} {value}" for name, value in stamps)
        lines.append(f"- {escape(what)}: {escape(told)}")
    return "\n".join(lines)

"""The paragraph on top of a report: what a reader should take away, derived from the entries alone."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.report.entries import Entry, datasets, fp32_of
from deploy.report.text import label, number, size


def verdict(entries: Sequence[Entry]) -> list[str]:
    """Sentences, one list item per device: fastest, most accurate, what INT8 costs, how far the references are."""
    devices = list(dict.fromkeys(entry.place.device for entry in entries))
    paragraphs = [
        " ".join([f"On {device}:", *device_sentences([e for e in entries if e.place.device == device])])
        for device in devices
    ]
    broken = [entry for entry in entries if entry.problems]
    if broken:
        names = ", ".join(label(entry) for entry in broken)
        paragraphs.append(f"Read with care: {names} came with problems, told in the provenance below.")
    return paragraphs


def device_sentences(entries: Sequence[Entry]) -> list[str]:
    """The sentences about one device."""
    variants = [entry for entry in entries if entry.model.role == "variant"]
    found = datasets(variants)
    sentences = [_fastest(variants)]
    if not found:
        return [*sentences, "Accuracy was not measured."]
    sentences += [_most_accurate(entries, name, images=len(images)) for name, images in found.items()]
    largest = next(iter(found))
    sentences += [text for text in (_int8(entry, variants, largest) for entry in variants) if text]
    return sentences


def _fastest(variants: Sequence[Entry]) -> str:
    timed = [(entry.latency.p50_ms, entry) for entry in variants if entry.latency is not None]
    if not timed:
        return "latency was not measured."
    p50_ms, best = min(timed, key=lambda item: item[0])
    threads = f"{best.place.threads} thread{'s' if best.place.threads != 1 else ''}"
    word = "" if best.kind == "measured" else f" ({best.kind})"
    return f"the fastest variant is {label(best)} with {number(p50_ms)} ms per pair at {size(best)} on {threads}{word}."


def _most_accurate(entries: Sequence[Entry], dataset: str, *, images: int) -> str:
    scored = _scored(entries, dataset, images=images)
    best = next((item for item in scored if item[1].model.role == "variant"), None)
    if best is None:
        return f"No variant has a complete average EPE on {dataset}."
    count = f"averaged over {images} images of {dataset}" if images != 1 else f"on the one image of {dataset}"
    text = f"The most accurate is {label(best[1])} at {size(best[1])}: EPE {best[0]:.2f} px {count}"
    references = [
        f"{entry.model.variant} {value:.2f} px{entry.coverage_note(dataset)}"
        for value, entry in scored
        if entry.model.role == "reference"
    ]
    return f"{text} (for reference: {', '.join(references)})." if references else f"{text}."


def _scored(entries: Sequence[Entry], dataset: str, *, images: int) -> list[tuple[float, Entry]]:
    """(mean EPE, entry) of those that have seen every image, best first; the faster of two that print the same."""
    means = [(entry.mean(dataset, "epe_px"), entry) for entry in entries if len(entry.accuracy(dataset)) == images]

    def rank(item: tuple[float, Entry]) -> tuple[float, float]:
        latency = item[1].latency
        return round(item[0], 2), latency.p50_ms if latency else float("inf")

    return sorted(((mean, entry) for mean, entry in means if mean is not None), key=rank)


def _int8(entry: Entry, entries: Sequence[Entry], dataset: str) -> str | None:
    """What INT8 costs against FP32 of the same student in the same place."""
    base = fp32_of(entry, entries)
    if entry.model.precision != "int8" or entry.place.precision_hint != "f32" or base is None:
        return None
    parts = []
    ours, theirs = entry.mean(dataset, "epe_px"), base.mean(dataset, "epe_px")
    if ours is not None and theirs is not None and len(entry.accuracy(dataset)) == len(base.accuracy(dataset)):
        change = f"by {ours - theirs:+.2f} px" if abs(ours - theirs) >= 0.01 else "by less than 0.01 px"
        parts.append(f"changes EPE {change} (FP32 {theirs:.2f} px, INT8 {ours:.2f} px)")
    if entry.ratio is not None:
        parts.append(f"takes {entry.ratio.value:.2f} times the time of FP32")
    if not parts:
        return None
    return f"Under {entry.place.runtime}, {entry.model.variant} {' and '.join(parts)}."

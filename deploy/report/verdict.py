"""The answers on top of a report: which variant for a frame rate, what INT8 costs, where the best one fails.

Derived from the entries alone; report.md and the page say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.report.choice import DEFAULT_FPS, Candidate, Choice, candidates, choose, is_complete
from deploy.report.entries import Entry, datasets, places
from deploy.report.failures import failure_sentences
from deploy.report.paired import range_text, signed
from deploy.report.precision_cost import Cost, costs
from deploy.report.text import caveats, label, number
from deploy.summary import METRICS

# More sentences than this would not be read; the tables below hold all.
MOST_TOLD = 3


@dataclass(frozen=True)
class Told:
    """One sentence.

    Args:
        about: what it is about, such as a board or a variant; empty when it says so itself.
    """

    about: str
    text: str


@dataclass(frozen=True)
class Answer:
    """One question with its sentences."""

    question: str
    sentences: list[Told]


def answers(entries: Sequence[Entry]) -> list[Answer]:
    """The three answers, and a fourth about rows that came with problems."""
    found = [
        Answer(f"Which variant for {DEFAULT_FPS:g} fps?", budget_sentences(entries, DEFAULT_FPS)),
        Answer("What does INT8 cost?", int8_sentences(entries)),
        Answer("Where does it fail?", failing_sentences(entries)),
    ]
    broken = [entry for entry in entries if entry.problems]
    if broken:
        named = ", ".join(f"{entry.number} {label(entry)}" for entry in broken[:MOST_TOLD])
        more = f" and {len(broken) - MOST_TOLD} more" if len(broken) > MOST_TOLD else ""
        told = Told(f"{named}{more}", "came with problems, told under their numbers.")
        found.append(Answer("What to read with care?", [told]))
    return found


def first_dataset(entries: Sequence[Entry]) -> tuple[str, int] | None:
    """The one that the page opens with: most images. None when nothing was evaluated."""
    found = datasets(entry for entry in entries if entry.model.role == "variant") or datasets(entries)
    return next(((name, len(datasets(entries)[name])) for name in found), None)


def budget_sentences(entries: Sequence[Entry], fps: float) -> list[Told]:
    """One sentence for each place and kind."""
    first = first_dataset(entries)
    return [
        Told(where, text)
        for where in places(entries)
        for text in place_answers([entry for entry in entries if entry.where == where], first, 1000 / fps)
    ]


def place_answers(here: Sequence[Entry], first: tuple[str, int] | None, budget_ms: float) -> list[str]:
    """Of one place: of what was measured, then of what was estimated."""
    timed = [entry for entry in here if entry.latency and entry.model.role == "variant"]
    if not timed:
        return []
    sentences = []
    for kind in dict.fromkeys(entry.kind for entry in timed):
        of_kind = [entry for entry in timed if entry.kind == kind]
        picked = choose(candidates(of_kind, first[0], "epe_px", images=first[1]), budget_ms) if first else None
        text = choice_sentence(picked, "epe_px") if picked else fastest_sentence(of_kind)
        sentences.append(text if kind == "measured" else f"estimated, not measured: {text}")
    return sentences


def choice_sentence(choice: Choice, metric: str) -> str:
    """What fits, and what the next more accurate one would cost. The page's script writes the same words."""
    rate = f"{number(1000 / choice.budget_ms)} fps ({number(choice.budget_ms)} ms per pair)"
    if choice.best is None:
        fastest = choice.fastest
        return f"no variant reaches {rate}; the fastest is {named(fastest, metric)}.{care_text([fastest.entry])}"
    latency = choice.best.entry.latency
    is_late = latency is not None and latency.high_ms is not None and latency.high_ms > choice.budget_ms
    late = " It may miss that: the error bar reaches beyond." if is_late else ""
    text = f"at {rate}, take {named(choice.best, metric)}.{late}"
    if choice.next_better is None:
        return f"{text} None is more accurate.{care_text([choice.best.entry])}"
    extra = choice.next_better.p50_ms - choice.best.p50_ms
    gain = choice.best.error - choice.next_better.error
    unit = METRICS[metric].split()[-1]
    cost = f"costs {number(extra)} ms more for {number(gain)} {unit} less"
    care = care_text([choice.best.entry, choice.next_better.entry])
    return f"{text} The next better, {named(choice.next_better, metric)}, {cost}.{care}"


def care_text(entries: Sequence[Entry]) -> str:
    """What to know of the entries that a sentence rests on, to stand after it; the page's script writes the same."""
    numbers: dict[str, list[str]] = {}
    for entry in entries:
        for caveat in caveats(entry):
            numbers.setdefault(caveat, []).append(str(entry.number))
    return "".join(f" Read {', '.join(of)} with care: {caveat}." for caveat, of in numbers.items())


def named(item: Candidate, metric: str) -> str:
    """A variant with its two numbers."""
    name, unit = METRICS[metric].rsplit(" ", 1)
    rate = f"{number(1000 / item.p50_ms)} fps{bar_text(item.entry)}"
    return (
        f"{item.entry.number} {label(item.entry)} with {number(item.p50_ms)} ms ({rate}), "
        f"{name} {number(item.error)} {unit}"
    )


def bar_text(entry: Entry) -> str:
    """The error bar of an estimate; nothing for a measurement."""
    latency = entry.latency
    if latency is None or latency.low_ms is None:
        return ""
    return f"; {number(latency.low_ms)} to {number(latency.high_ms)} ms"


def fastest_sentence(timed: Sequence[Entry]) -> str:
    """Where no average covers all images there is nothing but speed to go by."""
    best = min(timed, key=lambda entry: entry.latency.p50_ms if entry.latency else float("inf"))
    p50_ms = best.latency.p50_ms if best.latency else None
    text = f"the fastest is {best.number} {label(best)} with {number(p50_ms)} ms"
    return f"{text}; accuracy was not measured on all images.{care_text([best])}"


def int8_sentences(entries: Sequence[Entry]) -> list[Told]:
    """What INT8 changes, for the variants it helps most."""
    first = first_dataset(entries)
    dataset = first[0] if first else None
    found = [cost for cost in costs(entries, dataset)
             if cost.entry.model.precision == "int8" and cost.entry.place.precision_hint == "f32"]  # fmt: skip
    if not found:
        return [Told("", "No INT8 variant stands beside its FP32 variant in the same place.")]
    # What came with problems does not lead, however fast it was.
    found.sort(key=lambda cost: (
        cost.entry.kind == "estimated", bool(caveats(cost.entry) or caveats(cost.base)), cost.time or float("inf"),
    ))  # fmt: skip
    sentences = [int8_sentence(cost, dataset) for cost in found[:MOST_TOLD]]
    if len(found) > MOST_TOLD:
        sentences.append(Told("", f"{len(found) - MOST_TOLD} more: see what lower precision costs."))
    return sentences


def int8_sentence(cost: Cost, dataset: str | None) -> Told:
    """Of one variant."""
    parts = []
    if cost.time is not None:
        word = "" if cost.entry.kind == "measured" else " (estimated)"
        parts.append(f"{cost.time:.2f} times the time of FP32{word}")
    if cost.epe is not None and dataset is not None:
        before, after = (number(one.mean(dataset, "epe_px")) for one in (cost.base, cost.entry))
        parts.append(f"EPE {signed(cost.epe.mean)} px, from {before} to {after} ({range_text(cost.epe)})")
    if cost.size is not None:
        parts.append(f"{cost.size:.2f} times the file")
    text = f"{'; '.join(parts) or 'not compared'}.{care_text([cost.entry, cost.base])}"
    return Told(f"{cost.entry.number} {label(cost.entry)}", text)


def failing_sentences(entries: Sequence[Entry]) -> list[Told]:
    """Where the most accurate variant fails, and how far the references are."""
    first = first_dataset(entries)
    best = most_accurate(entries)
    if first is None or best is None:
        return [Told("", "Accuracy was not measured on all images of a dataset, so there is no telling.")]
    dataset, images = first
    beside = [entry for entry in entries
              if entry.model.role == "reference" and is_complete(entry, dataset, "epe_px", images=images)]  # fmt: skip
    references = [
        f"{entry.model.variant} {number(entry.mean(dataset, 'epe_px'))} px{entry.coverage_note(dataset)}"
        for entry in beside
    ]
    text = f"the most accurate, EPE {number(best.mean(dataset, 'epe_px'))} px"
    text += f" over {images} image{'s' if images != 1 else ''} of {dataset}"
    if references:
        text += f" (for reference: {', '.join(dict.fromkeys(references))})"
    about = f"{best.number} {label(best)}"
    first_told = Told(about, f"{text}.{care_text([best, *beside])}")
    return [first_told, *(Told("", sentence) for sentence in failure_sentences(best, dataset))]


def most_accurate(entries: Sequence[Entry]) -> Entry | None:
    """The variant of the smallest complete average EPE on the first dataset; the faster of two that print the same."""
    first = first_dataset(entries)
    if first is None:
        return None

    def rank(entry: Entry) -> tuple[float, bool, float]:
        p50_ms = entry.latency.p50_ms if entry.latency else float("inf")
        return round(entry.mean(first[0], "epe_px") or 0.0, 2), entry.kind == "estimated", p50_ms

    scored = [entry for entry in entries if entry.model.role == "variant" and entry.accuracy_from is None
              and is_complete(entry, first[0], "epe_px", images=first[1])]  # fmt: skip
    return min(scored, key=rank, default=None)

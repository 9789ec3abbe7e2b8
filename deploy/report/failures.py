"""Where a variant fails: its errors by class of pixels, added up over the images of a dataset, and its worst image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.report.entries import Entry
from deploy.report.text import number
from deploy.results import ImageAccuracy
from stereo.error_regions import BY_DISPARITY, BY_EDGE, BY_TEXTURE, BY_VISIBILITY, RegionErrors

KINDS = (BY_DISPARITY, BY_EDGE, BY_TEXTURE, BY_VISIBILITY)
# What is rarer than this share of the pixels does not decide anything.
LEAST_SHARE_PCT = 1.0
TOLD = 2


@dataclass(frozen=True)
class Failure:
    """A class of pixels with more bad ones than the others of its kind have.

    Args:
        rest_bad2_pct: over the other classes of the kind together.
    """

    region: RegionErrors
    share_pct: float
    rest_bad2_pct: float


def pooled(accuracy: Sequence[ImageAccuracy]) -> list[RegionErrors]:
    """Every class over all images: EPE over all its predicted pixels, bad-2 over all its pixels."""
    groups: dict[tuple[str, str], list[RegionErrors]] = {}
    for item in accuracy:
        for region in item.regions:
            groups.setdefault((region.by, region.name), []).append(region)
    return sorted((add(parts) for parts in groups.values()), key=order)


def add(parts: Sequence[RegionErrors]) -> RegionErrors:
    """Several images' errors in one class as one."""
    pixels, predicted = sum(part.pixels for part in parts), sum(part.predicted for part in parts)
    total = sum((part.epe_px or 0.0) * part.predicted for part in parts)
    bad = sum(part.bad2_pct * part.pixels for part in parts)
    epe_px = total / predicted if predicted else None
    return RegionErrors(parts[0].by, parts[0].name, pixels, predicted, epe_px, bad / pixels)


def order(region: RegionErrors) -> tuple[int, int, str]:
    """Kinds as in `KINDS`; bands by their lower end."""
    digits = "".join(char if char.isdigit() else " " for char in region.name).split()
    kind = KINDS.index(region.by) if region.by in KINDS else len(KINDS)
    return kind, int(digits[0]) if digits else 0, region.name


def failures(accuracy: Sequence[ImageAccuracy]) -> list[Failure]:
    """The classes that stand out most against the rest of their kind, at most one of a kind, the worst first."""
    regions, found = pooled(accuracy), []
    for kind in KINDS:
        members = [region for region in regions if region.by == kind]
        pixels = sum(region.pixels for region in members)
        worst: Failure | None = None
        for region in members:
            rest = [other for other in members if other is not region]
            share_pct = 100 * region.pixels / pixels
            if not rest or share_pct < LEAST_SHARE_PCT:
                continue
            candidate = Failure(region, share_pct, add(rest).bad2_pct)
            if worst is None or excess(candidate) > excess(worst):
                worst = candidate
        if worst is not None and excess(worst) > 0:
            found.append(worst)
    return sorted(found, key=lambda failure: -excess(failure))


def excess(failure: Failure) -> float:
    """How many points of bad-2 a class has above the rest."""
    return failure.region.bad2_pct - failure.rest_bad2_pct


def phrase(region: RegionErrors) -> str:
    """A class in words."""
    words = {
        BY_DISPARITY: f"pixels whose true disparity is {region.name}",
        BY_EDGE: f"pixels {region.name} away from a depth edge",
    }
    return words.get(region.by, f"{region.name} pixels")


def failure_sentences(entry: Entry, dataset: str) -> list[str]:
    """Where one entry fails on one dataset; empty when it was not evaluated."""
    accuracy = entry.accuracy(dataset)
    if not accuracy:
        return []
    sentences = [
        f"{failure.region.bad2_pct:.0f} % of the {phrase(failure.region)} are off by more than 2 px, "
        f"of the rest {failure.rest_bad2_pct:.0f} %; they are {failure.share_pct:.0f} % of all."
        for failure in failures(accuracy)[:TOLD]
    ]
    known = [item for item in accuracy if item.epe_px is not None]
    if len(known) > 1:
        worst = max(known, key=lambda item: item.epe_px or 0.0)
        mean = sum(item.epe_px or 0.0 for item in known) / len(known)
        sentences.append(
            f"The worst of its {len(known)} images is {worst.image}: EPE {number(worst.epe_px)} px, "
            f"{number(mean)} px on average."
        )
    undefined = len(accuracy) - len(known)
    if undefined:
        sentences.append(f"On {undefined} image{'s' if undefined > 1 else ''} it put out nothing valid.")
    return sentences

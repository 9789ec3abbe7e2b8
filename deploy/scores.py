"""What one method got on pairs with truth: per-image errors under each mask of a benchmark, and some pictures.

Numbers are per image; `deploy.summary` makes one of them, by the protocol of the benchmark.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.fp32_difference import Histogram, Recorder
from deploy.opening import place_of
from deploy.result_pictures import PictureFolder
from deploy.results import ImageAccuracy, ModelFacts, Pictures, ResultRow, make_row
from deploy.run_pair import Prediction, run_pair
from deploy.runners.protocol import NativeMethod, Runner, problems_of
from stereo.error_regions import errors_by_region
from stereo.errors import UserError
from stereo.metrics import NothingCounted, errors_against_truth
from stereo.pair import StereoPair
from stereo.truth_set import MaskChoice

# More of a kind would bury what else a row has to tell.
PROBLEMS_TOLD = 10


@dataclass(frozen=True)
class Counting:
    """Which pixels count, and what the numbers are called.

    Args:
        name: of the data in reports, without the mask.
        masks: each becomes a row of results of its own.
        max_disp: only pixels whose true disparity is below this count, px; None counts all.
        benchmark, split: of the data where it is a benchmark.
    """

    name: str
    masks: tuple[MaskChoice, ...] = ("noc or all",)
    max_disp: float | None = None
    benchmark: str | None = None
    split: str | None = None

    def dataset(self, mask: MaskChoice) -> str:
        """What reports call the pixels of one mask; where each pair has its own mask, the images tell it."""
        if self.benchmark is None:
            return self.name
        limit = "" if self.max_disp is None else f", disparity < {self.max_disp:g}"
        return f"{self.name}, {mask}{limit}"


class Scores:
    """Runs a method pair after pair and keeps what it got.

    Args:
        method: a runner, or a teacher or classical method at native size.
        model: what the rows are about; role "reference" for what variants are compared with.
        counting: which pixels count.
        pictures: where to save pictures; None saves none.
        shown: names of the images of which pictures are saved; None saves all.
        watcher: sees every map, to tell how far it lies from another variant's; None when there is none to compare.
    """

    def __init__(
        self,
        method: Runner | NativeMethod,
        model: ModelFacts,
        counting: Counting,
        *,
        pictures: PictureFolder | None = None,
        shown: frozenset[str] | None = None,
        watcher: Recorder | Histogram | None = None,
    ) -> None:
        self.method, self.model, self.counting = method, model, counting
        self._watcher = watcher
        self._pictures, self._shown = pictures, shown
        self._accuracy: dict[MaskChoice, list[ImageAccuracy]] = {mask: [] for mask in counting.masks}
        self._left_out: dict[MaskChoice, list[str]] = {mask: [] for mask in counting.masks}
        self._saved: list[Pictures] = []
        self.images = 0

    def take_up(self, rows: Sequence[ResultRow], stamps: Mapping[str, str]) -> list[str]:
        """Take over the finished images of interrupted work that would come out alike now. Returns their names.

        Args:
            rows: of the results file.
            stamps: image → what its `stamp` must be.
        """
        now = self._row(())
        alike = [
            row
            for row in rows
            if row.of_images
            and row.accuracy
            and (row.model, row.place, row.commit, row.tools) == (now.model, now.place, now.commit, now.tools)
        ]
        found: dict[MaskChoice, ResultRow] = {}
        for mask in self.counting.masks:
            of_mask = [row for row in alike if row.accuracy[0].dataset == self.counting.dataset(mask)]
            if not of_mask:
                return []
            found[mask] = max(of_mask, key=lambda row: len(row.accuracy))
        finished = [
            {entry.image: entry for entry in row.accuracy if entry.stamp and entry.stamp == stamps.get(entry.image)}
            for row in found.values()
        ]
        # Under a mask that counts none of its pixels an image has no entry: it is run again, which settles that.
        names = [name for name in finished[0] if all(name in entries for entries in finished)]
        for mask, entries in zip(found, finished, strict=True):
            self._accuracy[mask] += [entries[name] for name in names]
        pictures = next(iter(found.values())).pictures
        if self._pictures is not None:
            self._saved += [each for each in pictures if each.image in names]
        self.images = len(names)
        return names

    def add(self, pair: StereoPair, *, stamp: str | None = None) -> None:
        """Run one pair and count its errors.

        Args:
            stamp: what its entries carry; see `take_up`.

        Raises:
            UserError: the pair has no truth, or the network put out something else than a disparity map.
        """
        if pair.disparity is None:
            raise UserError("has no true disparity to evaluate against", where=pair.name)
        prediction = run_pair(self.method, pair)
        counted: dict[MaskChoice, ImageAccuracy | None] = {
            mask: self._count(prediction, pair, mask, stamp) for mask in self.counting.masks
        }
        if self._pictures is not None and (self._shown is None or pair.name in self._shown):
            runtime, hint = self.method.runtime, self.method.precision_hint
            self._saved.append(
                self._pictures.save(pair, prediction.disparity, model=self.model, runtime=runtime, precision_hint=hint)
            )
        if self._watcher is not None:
            self._watcher.see(pair.name, prediction.disparity)
        for mask, entry in counted.items():
            if entry is None:
                self._left_out[mask].append(pair.name)
            else:
                self._accuracy[mask].append(entry)
        self.images += 1

    def _count(
        self, prediction: Prediction, pair: StereoPair, mask: MaskChoice, stamp: str | None
    ) -> ImageAccuracy | None:
        """Errors under one mask; None where no pixel counts."""
        assert pair.disparity is not None
        pixels, limit = None if mask == "all" else pair.noc, self.counting.max_disp
        try:
            errors = errors_against_truth(prediction.disparity, pair.disparity, mask=pixels, max_disp=limit)
        except NothingCounted:
            return None
        fields = dataclasses.asdict(errors)
        return ImageAccuracy(
            dataset=self.counting.dataset(mask),
            image=pair.name,
            mask=fields.pop("mask_name"),
            height=pair.height,
            width=pair.width,
            scale=prediction.fit.factor if prediction.fit else 1.0,
            nonfinite_pixels=prediction.nonfinite_pixels,
            benchmark=self.counting.benchmark,
            split=self.counting.split,
            stamp=stamp,
            regions=errors_by_region(prediction.disparity, pair, mask=pixels, max_disp=limit),
            **fields,
        )

    @property
    def counted(self) -> bool:
        """Whether any pixel of any image counted so far."""
        return any(self._accuracy.values())

    def rows(self, *, of_images: int | None = None) -> list[ResultRow]:
        """One row for each mask.

        Args:
            of_images: how many images there were to evaluate, where the work stopped before; None when it is done.

        Raises:
            UserError: no pixel of no image counts.
        """
        if not self.counted:
            raise UserError("no pixel of any image has truth that counts", where=self.counting.name,
                            fix="check the truth's scale, its mask and --max-disp")  # fmt: skip
        stopped = () if of_images is None else (f"stopped after {self.images} of {of_images} images",)
        rows = []
        for mask, accuracy in self._accuracy.items():
            of_images_run = (*left_out_problems(self._left_out[mask]), *nonfinite_problems(accuracy))
            problems = (*problems_of(self.method), *stopped, *of_images_run)
            # Pictures and difference are of all pixels: with the first row they are in a report once.
            pictures = () if rows else tuple(self._saved)
            difference = None if rows or self._watcher is None else self._watcher.difference()
            if accuracy:
                rows.append(
                    self._row(
                        accuracy, pictures=pictures, problems=problems, of_images=of_images, difference=difference
                    )
                )
        return rows

    def _row(self, accuracy: Sequence[ImageAccuracy], **measured: Any) -> ResultRow:
        place = place_of(self.method, None if isinstance(self.method, NativeMethod) else self.method.input_size)
        return make_row(self.model, place, accuracy=tuple(accuracy), **measured)


def left_out_problems(images: Sequence[str]) -> tuple[str, ...]:
    """What a reader must know of images of which no pixel counts."""
    if not images:
        return ()
    count = f"{len(images)} image{'s' if len(images) > 1 else ''}"
    return (f"{count} left out, because no pixel of theirs counts: {', '.join(images[:PROBLEMS_TOLD])}",)


def nonfinite_problems(accuracy: Sequence[ImageAccuracy]) -> tuple[str, ...]:
    """What a reader must know of images on which a network put out NaN or infinity."""
    broken = [entry for entry in accuracy if entry.nonfinite_pixels]
    told = tuple(
        f"{entry.nonfinite_pixels} of {entry.height * entry.width} pixels of {entry.image} came out as NaN or "
        "infinite; they count as bad, and EPE leaves them out"
        for entry in broken[:PROBLEMS_TOLD]
    )
    more = len(broken) - len(told)
    return (*told, f"and so on {more} more images") if more else told

"""FoundationStereo as a teacher: labels with a left-right check, at any size, on CPU or GPU.

H height, W width
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from stereo.errors import UserError
from stereo.pair import Disparity, Image, StereoPair
from teacher.checkpoints import load_foundation_stereo
from teacher.config import Consistency, Device, Precision, TeacherOptions
from teacher.consistency import consistency_confidence, left_right_difference
from teacher.foundation_stereo import FoundationStereo
from teacher.fusing import prepare_for_inference
from teacher.inference import COARSE_SCALE, Padding
from teacher.memory_estimate import Need, check_memory, estimate_bytes, free_bytes
from teacher.protocol import TeacherOutput
from teacher.published_checkpoint import OBTAIN
from teacher.score_entropy import EntropyWatch

ITERATIONS = 32
# The right view serves the check alone; RAFT-type refinement is close to its end after this many steps.
RIGHT_ITERATIONS = 8
HALF_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """How the network is run; everything here changes the labels.

    Args:
        iterations: refinement steps.
        scale: of the images before they are matched.
        hierarchical: match at half size first.
        precision: fp32, bf16 or fp16.
        consistency: see `teacher.config`.
    """

    iterations: int = ITERATIONS
    scale: float = 1.0
    hierarchical: bool = False
    precision: Precision = "fp32"
    consistency: Consistency = "shared"


def choose_device(wanted: Device | None) -> torch.device:
    """The device asked for; for auto a GPU when there is one.

    Raises:
        UserError: a GPU was asked for and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("there is no CUDA device that PyTorch can use", where="--teacher.device",
                        fix="install a CUDA build of torch, or --teacher.device cpu")  # fmt: skip
    if wanted in (None, "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)


def choose_precision(wanted: Precision | None, device: torch.device) -> Precision:
    """The precision asked for; for auto fp16 on a GPU, as FoundationStereo was published, and fp32 on a CPU."""
    if wanted in (None, "auto"):
        return "fp16" if device.type == "cuda" else "fp32"
    return wanted


def check_settings(settings: Settings) -> None:
    """Refuse settings that cannot work.

    Raises:
        UserError: out of range, or two that exclude each other.
    """
    if settings.iterations < 1:
        raise UserError(f"{settings.iterations} is below 1", where="--teacher.iterations", fix=f"{ITERATIONS} is usual")
    if not 0 < settings.scale <= 2:
        raise UserError(
            f"{settings.scale} is not between 0 and 2", where="--teacher.scale", fix="0.5 halves the images"
        )
    if settings.hierarchical and settings.consistency == "shared":
        raise UserError("two passes cannot share their features", where="--teacher.hierarchical",
                        fix="add --teacher.consistency exact")  # fmt: skip


class FoundationTeacher:
    """Label with FoundationStereo.

    Disparity is dense, also where the left-right check fails; it is NaN only below 0 and beyond the disparity range.
    Confidence as in `teacher.consistency`.

    Args:
        network: with its weights; it is made ready to run, in place, and can no longer be saved or trained.
        settings: how to run it.
        device: where.
        threads: of one inference on a CPU; PyTorch's own choice when None.

    Raises:
        UserError: settings that cannot work.
    """

    name = "foundation_stereo"

    def __init__(
        self, network: FoundationStereo, settings: Settings, *, device: torch.device, threads: int | None = None
    ) -> None:
        check_settings(settings)
        self.settings, self.device = settings, device
        self.network = prepare_for_inference(network.to(device), channels_last=device.type == "cpu")
        self.threads = threads
        # Disparities of the resized images reach max_disp of the network; at full size they are larger or smaller.
        self.max_disp = round(network.config.max_disp / settings.scale)

    @classmethod
    def open(cls, options: TeacherOptions) -> FoundationTeacher:
        """Open by the options of the command line."""
        if options.checkpoint is None:
            raise UserError("the teacher foundation_stereo needs weights", where="--teacher.checkpoint", fix=OBTAIN)
        if options.threads is not None and options.threads < 1:
            raise UserError(f"{options.threads} is below 1", where="--teacher.threads")
        device = choose_device(options.device)
        settings = Settings(
            iterations=ITERATIONS if options.iterations is None else options.iterations,
            scale=1.0 if options.scale is None else options.scale,
            hierarchical=bool(options.hierarchical),
            precision=choose_precision(options.precision, device),
            consistency=options.consistency or ("exact" if options.hierarchical else "shared"),
        )
        check_settings(settings)
        network = load_foundation_stereo(
            options.checkpoint, max_disp=options.max_disp, attention_axis=options.attention_axis, vit=options.vit
        )
        log.info("runs on %s in %s, %d iterations", device, settings.precision, settings.iterations)
        return cls(network, settings, device=device, threads=options.threads)

    def describe(self) -> dict[str, Any]:
        """Weights, settings and device: everything that labels depend on."""
        return {
            "name": self.name,
            "network": dataclasses.asdict(self.network.config),
            "max_disp": self.max_disp,
            "weights_sha256": self.network.weights_sha256,
            "settings": dataclasses.asdict(self.settings),
            "right_iterations": self._right_iterations(),
            "runtime": f"torch {torch.__version__} {self.device.type}",
        }

    def predict(self, pair: StereoPair) -> TeacherOutput:
        """Disparity and confidence of one pair.

        Raises:
            UserError: too small, or more memory needed than there is.
        """
        left, right = (self._resized(image) for image in (pair.left, pair.right))
        self._check_memory(left.shape[0], left.shape[1], pair.name)
        with cpu_threads(self.threads), self._autocast(), EntropyWatch(self.network.filtering.classifier) as watch:
            of_left, of_right = self._both(self._tensor(left), self._tensor(right))
        size = (pair.width, pair.height)
        disparity = self._masked(self._restored(of_left, size))
        other = self._masked(self._restored(of_right, size))
        return TeacherOutput(
            disparity,
            consistency_confidence(left_right_difference(disparity, other)),
            right=other,
            entropy=watch.plane(padding=Padding.for_size(*self._matched_first(left)), size=size),
        )

    def left_disparity(self, pair: StereoPair) -> Disparity:
        """Disparity of the left view alone, NaN below 0 and beyond the disparity range."""
        return self._masked(self.match(pair))

    def match(self, pair: StereoPair) -> Disparity:
        """Disparity of the left view alone, unmasked: float32 H×W px."""
        left, right = (self._resized(image) for image in (pair.left, pair.right))
        self._check_memory(left.shape[0], left.shape[1], pair.name)
        with cpu_threads(self.threads), self._autocast():
            found = self._one(self._tensor(left), self._tensor(right), self.settings.iterations)
        return self._restored(found, (pair.width, pair.height))

    def _both(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.settings.consistency == "shared":
            return self.network.predict_both(
                left, right, iterations=self.settings.iterations, right_iterations=self._right_iterations()
            )
        mirrored = self._one(right.flip(3), left.flip(3), self._right_iterations())
        return self._one(left, right, self.settings.iterations), mirrored.flip(3)

    def _one(self, left: torch.Tensor, right: torch.Tensor, iterations: int) -> torch.Tensor:
        return self.network.predict(left, right, iterations=iterations, hierarchical=self.settings.hierarchical)

    def _matched_first(self, image: Image) -> tuple[int, int]:
        """Height and width of what the classifier sees first: half the image of two passes."""
        height, width = image.shape[:2]
        if self.settings.hierarchical:
            return int(height * COARSE_SCALE), int(width * COARSE_SCALE)
        return height, width

    def _right_iterations(self) -> int:
        """A second pass is asked for by those who want the exact answer, so it runs in full."""
        if self.settings.consistency == "exact":
            return self.settings.iterations
        return min(RIGHT_ITERATIONS, self.settings.iterations)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        half = HALF_TYPES.get(self.settings.precision)
        return torch.autocast(self.device.type, dtype=half) if half is not None else contextlib.nullcontext()

    def _check_memory(self, height: int, width: int, name: str) -> None:
        padding = Padding.for_size(height, width)
        needed = estimate_bytes(
            height + padding.top + padding.bottom,
            width + padding.left + padding.right,
            max_disp=self.network.config.max_disp,
            volume_width=self.network.config.volume_width,
            views=2 if self.settings.consistency == "shared" else 1,
            bytes_per_value=2 if self.settings.precision in HALF_TYPES else 4,
        )
        check_memory(Need(needed, free_bytes(self.device)), what=f"matching {name} at {height}x{width}")

    def _resized(self, image: Image) -> Image:
        if self.settings.scale == 1:
            return image
        height, width = (max(1, round(side * self.settings.scale)) for side in image.shape[:2])
        how = cv2.INTER_AREA if self.settings.scale < 1 else cv2.INTER_LINEAR
        return cv2.resize(image, (width, height), interpolation=how).astype(np.uint8)

    def _tensor(self, image: Image) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))[None]).to(self.device).float()

    def _restored(self, disparity_11HW: torch.Tensor, size: tuple[int, int]) -> Disparity:
        """Back to the pair's size (width, height) and its pixels."""
        plane = disparity_11HW[0, 0].float().cpu().numpy()
        if plane.shape[::-1] == size:
            return plane
        grown = cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR)
        return (grown * np.float32(size[0] / plane.shape[1])).astype(np.float32)

    def _masked(self, disparity: Disparity) -> npt.NDArray[np.float32]:
        usable = (disparity >= 0) & (disparity <= self.max_disp)
        return np.where(usable, disparity, np.float32(np.nan)).astype(np.float32)


@contextlib.contextmanager
def cpu_threads(threads: int | None) -> Any:
    """PyTorch's CPU threads for the length of a block."""
    if threads is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Quantisation-aware training: fine-tune a student whose convolutions already compute on the integer grid.

    quantize ─ graphs/ (which convolutions, which frames) ─▶ train --qat.graphs ─▶ student.safetensors ─▶ quantize again

nvidia-modelopt rounds inputs and weights of the convolutions in the forward pass and lets the gradient through
(straight through, arXiv 1308.3432). Ranges of inputs come from the frames of the first calibration and stay; those of
weights follow the weights, as they will when the graph is made. The result is an ordinary student in float: `quantize`
makes the same Q/DQ graph of it as of any other, with `--calibration` on the same frames. Beside the labels the student
learns from what it was itself, in float, on the same images: most of what rounding moves has no label.

    B batch, H height, W width
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from calibration.frames import FrameRecord, read_fitted
from calibration.modelopt_process import OFFLINE
from calibration.record import RECORD_NAME, check_repeated, repeat_choice
from distill.batches import Batch
from distill.config import LossOptions, TrainConfig
from distill.losses import Losses, softened, weighted_mean
from distill.networks import TrainedStudent, train_layers
from stereo.artifacts import MANIFEST_NAME, read_json, sha256_file
from stereo.errors import UserError, require
from stereo.label_set import LabelSet
from stereo.options import parse_size
from stereo.progress import progress
from student.checkpoint import find_student, save_student
from student.model import SIZE_MULTIPLE, StudentStereo
from student.presets import PRESETS

# What modelopt calls the parts that it adds to a convolution.
QUANTIZER = "_quantizer"
BITS = 8


class QuantisedStudent(TrainedStudent):
    """A student with rounding convolutions, beside the one in float that it should stay close to.

    Args:
        module: the student, with modelopt's quantisers in it.
        plain: the student as it was.
        difference: weight of the difference between the two.
    """

    def __init__(self, module: StudentStereo, plain: StudentStereo, *, difference: float) -> None:
        super().__init__(module, freeze_batch_norm=True)
        # In a tuple, for it is no part of what is trained or kept in checkpoints.
        self._plain = (plain.eval().requires_grad_(False),)
        self.difference = difference

    def set_training(self) -> None:
        train_layers(self.module, freeze_batch_norm=True)
        # The 2-D forms take a convolution's weights past its quantisers.
        self.module.set_apc_form("conv3d")
        plain = self._plain[0].to(next(self.module.parameters()).device)
        plain.set_apc_form("mixed" if next(plain.parameters()).device.type == "cpu" else "conv3d")

    def losses(self, batch: Batch, options: LossOptions) -> Losses:
        predictions, losses = self.compare(batch, options)
        if not self.difference:
            return losses
        with torch.no_grad():
            wanted = self._plain[0].predict_sequence(batch.left, batch.right, every=False).sequence[-1]
        # Everywhere: what rounding may not move needs no label.
        moved = softened((predictions.sequence[-1] - wanted).abs(), options.robust_px)
        difference = weighted_mean(moved, torch.ones_like(moved))
        return losses._replace(total=losses.total + self.difference * difference, difference=difference)

    def save(self, path: Path, *, training: Mapping[str, Any]) -> Path:
        return save_student(without_quantisers(self.module), path, training=training)


def without_quantisers(module: StudentStereo) -> StudentStereo:
    """An ordinary student with the weights of one with quantisers."""
    student = StudentStereo(module.config)
    student.load_state_dict({name: tensor for name, tensor in module.state_dict().items() if QUANTIZER not in name})
    return student.eval()


def check_qat(config: TrainConfig) -> None:
    """Refuse settings that do not go together.

    Raises:
        UserError: see there.
    """
    if config.qat.graphs is None:
        if config.qat.frames is not None:
            raise UserError("training with rounding needs graphs", where="--qat.graphs",
                            fix="the folder that `quantize` wrote")  # fmt: skip
        return
    if config.preset not in PRESETS:
        raise UserError(f"'{config.preset}' is no student", where="--qat.graphs", fix="leave it out")
    if config.batch_norm not in ("auto", "freeze"):
        raise UserError("batch statistics stay as they are while convolutions round", where="--batch_norm",
                        fix="leave it out")  # fmt: skip
    if config.init is None:
        raise UserError(
            "training with rounding starts from a student", where="--init", fix="the one that was quantised"
        )
    if config.qat.frames is None:
        raise UserError("the ranges come from frames", where="--qat.frames", fix="the label set given to `quantize`")
    if config.teacher.checkpoint is not None:
        raise UserError("rounding and a teacher on line do not go together", where="--teacher.checkpoint",
                        fix="leave one of them out")  # fmt: skip
    if not 0 <= config.qat.difference < math.inf:
        raise UserError(f"{config.qat.difference} is out of range", where="--qat.difference", fix="0 or more")


def qat_files(config: TrainConfig) -> list[Path]:
    """Files that decide what is rounded and how."""
    return [] if config.qat.graphs is None else [config.qat.graphs / MANIFEST_NAME, config.qat.graphs / RECORD_NAME]


def check_graphs(config: TrainConfig) -> None:
    """Refuse graphs that were made of another student, or that name convolutions in a way that cannot be followed.

    Raises:
        UserError: see there.
    """
    if config.qat.graphs is None or config.init is None:
        return
    manifest = read_json(config.qat.graphs / MANIFEST_NAME, what="manifest of quantised graphs")
    if manifest["made_from"]["student"] != sha256_file(find_student(config.init)):
        raise UserError(f"were made of another student than {config.init}", where=config.qat.graphs,
                        fix="run `quantize` on this one")  # fmt: skip
    if manifest["config"]["apc_form"] != "conv3d":
        raise UserError("were made with --apc_form conv2d, which names convolutions otherwise", where=config.qat.graphs,
                        fix="make others with --apc_form conv3d; the weights are the same")  # fmt: skip


def quantised_student(student: StudentStereo, config: TrainConfig) -> QuantisedStudent:
    """A student with quantisers in the convolutions that `quantize` chose, their ranges from the same frames.

    Args:
        student: the one that was quantised.
        config: of the training; `check_qat` and `check_graphs` passed.

    Raises:
        UserError: the label set is another one, or its frames have other pixels.
    """
    assert config.qat.graphs is not None
    assert config.qat.frames is not None
    manifest = read_json(config.qat.graphs / MANIFEST_NAME, what="manifest of quantised graphs")
    labels = LabelSet.open(config.qat.frames)
    record = config.qat.graphs / RECORD_NAME
    choice = repeat_choice(record, labels)
    size = parse_size(manifest["config"]["size"], multiple=SIZE_MULTIPLE)
    quantised, records = insert_quantisers(
        copy.deepcopy(student), manifest["precision"]["quantised"], labels, choice.indices, size
    )
    check_repeated(record, records, size)
    return QuantisedStudent(quantised, student, difference=config.qat.difference)


def insert_quantisers(
    student: StudentStereo, convolutions: Sequence[str], labels: LabelSet, frames: Sequence[int], size: tuple[int, int]
) -> tuple[StudentStereo, list[FrameRecord]]:
    """Put quantisers into a student, in place, and find the ranges of their inputs.

    Args:
        convolutions: names of the nodes that are quantised in the graph.
        frames: positions in the label set.
        size: (H, W) that they are fitted to.

    Returns: the student, and the frames as they went in.
    """
    for name, value in OFFLINE.items():
        os.environ.setdefault(name, value)
    mtq = require("modelopt.torch.quantization", hint="pip install 'stereodistill[quantize]'")
    chosen: dict[str, Any] = {"default": {"enable": False}}
    modules = sorted({name.rpartition("/")[0] for name in convolutions})
    for module in modules:
        chosen[f"{module}.weight{QUANTIZER}"] = {"num_bits": BITS, "axis": 0, "enable": True}
        chosen[f"{module}.input{QUANTIZER}"] = {"num_bits": BITS, "axis": None, "enable": True}
    student.eval().set_apc_form("conv3d")
    records: list[FrameRecord] = []

    def calibrate(network: StudentStereo) -> None:
        with torch.no_grad(), progress("calibrating", len(frames)) as ticker:
            for index in frames:
                frame = read_fitted(labels, index, size)
                network(torch.from_numpy(frame.left), torch.from_numpy(frame.right))
                records.append(frame.record)
                ticker.advance(note=frame.record.name)

    quantised = mtq.quantize(student, {"quant_cfg": chosen, "algorithm": "max"}, forward_loop=calibrate)
    for module in modules:
        # A weight's range is that of the weight at every step. A module that is not there fails here.
        quantised.get_submodule(f"{module}.weight{QUANTIZER}").reset_amax()
    return quantised, records

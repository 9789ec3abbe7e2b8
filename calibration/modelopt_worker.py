"""The child process in which nvidia-modelopt runs: `python -m calibration.modelopt_worker REQUEST.json`.

modelopt prints freely, patches onnxruntime in its own process and leaves files in the working folder. Here it may: its
standard output and error go wherever the parent pointed standard error, the real standard output carries the answers
(`calibration.modelopt_request`), and the working folder is a temporary one. https://github.com/NVIDIA/TensorRT-Model-Optimizer
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import onnx
from onnxruntime.quantization.calibrate import CalibrationDataReader

from calibration.exact_readers import restore_exact_readers
from calibration.frames import read_fitted
from calibration.modelopt_request import ModeloptRequest
from calibration.precision import QUANTISED_OPERATORS
from stereo.errors import UserError
from stereo.label_set import LabelSet


class Answers:
    """The parent's end: one JSON object per line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def send(self, event: str, **content: Any) -> None:
        """Send an answer; when the parent is gone this raises, and the work stops."""
        self._stream.write(json.dumps({"event": event, **content}) + "\n")
        self._stream.flush()


def take_standard_output() -> TextIO:
    """Keep standard output for the answers and let everything that is printed go to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


class LabelSetReader(CalibrationDataReader):
    """Streams frames of a label set from disk, one at a time; every frame is reported once, to whoever listens."""

    def __init__(self, request: ModeloptRequest, answers: Answers | None) -> None:
        self._labels = LabelSet.open(request.label_set)
        self._frames, self._size, self._answers = request.frames, request.size, answers
        self._next = 0
        self._reported: set[int] = set()

    def _read(self, position: int) -> dict[str, np.ndarray]:
        frame = read_fitted(self._labels, self._frames[position], self._size)
        if self._answers is not None and position not in self._reported:
            self._reported.add(position)
            self._answers.send("frame", record=dataclasses.asdict(frame.record))
        return {"left": frame.left, "right": frame.right}

    def get_first(self) -> dict[str, np.ndarray]:
        """The first frame; modelopt probes the graph with it."""
        return self._read(0)

    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]  # None ends the data; the stub forgot it
        """The next frame, None after the last."""
        if self._next == len(self._frames):
            return None
        self._next += 1
        return self._read(self._next - 1)

    def rewind(self) -> None:
        """Start again."""
        self._next = 0

    def __len__(self) -> int:
        return len(self._frames)


def exactly(names: Sequence[str]) -> list[str]:
    """Names as the anchored regular expressions that modelopt wants."""
    return [f"{re.escape(name)}$" for name in names]


def to_fp16(source: str, target: str, keep_fp32: Sequence[str]) -> None:
    """Strongly typed mixed precision: FP16 but for the named nodes, float32 inputs and output.

    No limit on the values seen: what must not be half precision is named, so that a graph does not change its types
    with the calibration frames.
    """
    from modelopt.onnx.autocast import convert_to_mixed_precision

    model = convert_to_mixed_precision(
        source, low_precision_type="fp16", nodes_to_exclude=exactly(keep_fp32), data_max=np.inf, keep_io_types=True
    )
    onnx.save(model, target)


def to_int8(request: ModeloptRequest, answers: Answers | None, target: str, keep_float: Sequence[str]) -> None:
    """Q/DQ around the convolutions with ranges from the frames, everything else as in `to_fp16` or in float32."""
    from modelopt.onnx.quantization import quantize

    quantised = str(Path(target).with_suffix(".fp32.onnx"))
    quantize(
        request.fp32,
        quantize_mode="int8",
        calibration_data_reader=LabelSetReader(request, answers),
        calibration_method=request.method,
        calibration_eps=["cpu"],
        op_types_to_quantize=list(QUANTISED_OPERATORS),
        nodes_to_exclude=exactly(keep_float),
        high_precision_dtype="fp32",
        output_path=quantised,
        log_level="INFO",
    )
    model = onnx.load(quantised)
    restore_exact_readers(model)
    if request.fp16 is None:
        onnx.save(model, target)
        return
    onnx.save(model, quantised)
    to_fp16(quantised, target, request.keep_fp32)


def work(request: ModeloptRequest, answers: Answers) -> None:
    """Do the job."""
    if request.fp16 is not None:
        to_fp16(request.fp32, request.fp16, request.keep_fp32)
        answers.send("made", role="fp16")
    to_int8(request, answers, request.int8, request.keep_float)
    answers.send("made", role="int8")
    if request.mixed is not None:
        to_int8(request, None, request.mixed, request.mixed_keep_float)  # the frames were reported
        answers.send("made", role="mixed")
    answers.send("done")


def main(arguments: Sequence[str]) -> int:
    """Entry point of the child. Returns the exit code."""
    # Ctrl-C reaches the whole group; the parent ends this process in its own time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = Answers(take_standard_output())
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    try:
        work(ModeloptRequest.read(Path(arguments[0])), answers)
    except UserError as error:
        answers.send("error", line=str(error))
        return 2
    except OSError as error:
        answers.send("os_error", errno=error.errno, line=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

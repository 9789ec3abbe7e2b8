"""Any ONNX stereo network as a teacher, run by onnxruntime on the CPU and checked left against right.

How the network wants its images is told by a `teacher.onnx_description`. Without one the names of its inputs and output
must be those of a shipped description, or it must follow this project's own convention: inputs left and right (N×3×H×W
float, raw RGB 0–255), output disparity.

    # H height, W width, C channels
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from stereo.artifacts import sha256_file
from stereo.errors import UserError, require
from stereo.fit_size import Fit
from stereo.pair import Disparity, Image, StereoPair
from teacher.consistency import consistency_confidence, disparity_of_both_views, left_right_difference
from teacher.onnx_description import NetworkDescription, read_description, shipped_descriptions
from teacher.protocol import TeacherOutput

ELEMENT_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
PROVIDER = "CPUExecutionProvider"
# A network's value for "infinitely far" may come out a little below 0; below this it means nothing.
NEGATIVE_LIMIT_PX = -1.0
INSTALL = "pip install onnxruntime"

log = logging.getLogger(__name__)


def signature(session: Any) -> str:
    """Inputs and outputs of a graph in one line, for error messages."""

    def listed(values: list[Any]) -> str:
        return ", ".join(f"{value.name} {value.type} {value.shape}" for value in values)

    return f"inputs: {listed(session.get_inputs())}; outputs: {listed(session.get_outputs())}"


def not_stereo(path: Path, problem: str, session: Any) -> UserError:
    """The error for a graph that does not fit its description."""
    return UserError(
        f"{problem}; this graph has {signature(session)}",
        where=path,
        fix="if it is a stereo network, describe it in a YAML file with inputs.names, inputs.layout and output.name "
        "and give that with --teacher.description",
    )


class OnnxTeacher:
    """An ONNX stereo network with a left-right check.

    The disparity is dense, also where the left-right check fails; it is NaN only outside 0 to max_disp px.
    Confidence is exp(-(left-right difference / 1 px)²), 0 beyond 2 px; see `teacher.consistency`.

    Args:
        path: the .onnx file.
        description: what it wants and gives; None looks for a shipped one with its names, else assumes our convention.
        max_disp: larger disparities are masked, in px; None takes the description's.
        threads: of one inference; None leaves it to onnxruntime (the number of cores).

    Raises:
        UserError: no ONNX file, no onnxruntime, or not the network that is described.
    """

    name = "onnx"

    def __init__(
        self,
        path: Path,
        description: NetworkDescription | None = None,
        *,
        max_disp: int | None = None,
        threads: int | None = None,
    ) -> None:
        self._path = path
        self._session = open_session(path, threads)
        self.description = description or recognised(self._session)
        self.max_disp = self.description.max_disp if max_disp is None else max_disp
        if self.max_disp < 1:
            raise UserError(f"{self.max_disp} is below 1", where="--teacher.max_disp")
        self._dtype, self._fixed = self._check_graph()
        self._sha256 = sha256_file(path)

    @classmethod
    def open(
        cls,
        model: str,
        *,
        description: str | None = None,
        max_disp: int | None = None,
        threads: int | None = None,
    ) -> OnnxTeacher:
        """Open by the paths of the command line.

        Args:
            model: an .onnx file, or a YAML description that names one.
            description: a YAML description or the name of a shipped one; only with an .onnx.
        """
        path = Path(model)
        if path.suffix.lower() not in (".yaml", ".yml"):
            told = read_description(description) if description else None
            return cls(path, told, max_disp=max_disp, threads=threads)
        if description is not None:
            raise UserError("is a description already", where=path, fix="give the .onnx, or no --teacher.description")
        told = read_description(path)
        if told.model is None:
            raise UserError("names no model", where=path, fix="add 'model: FILE.onnx', or give it as --teacher.model")
        return cls(path.parent / told.model, told, max_disp=max_disp, threads=threads)

    def describe(self) -> dict[str, Any]:
        """Description, hash of the weights and runtime."""
        ort = require("onnxruntime", hint=INSTALL)
        return {
            "name": self.name,
            "network": self.description.name,
            "max_disp": self.max_disp,
            "weights_sha256": self._sha256,
            "description": {key: value for key, value in asdict(self.description).items() if key != "model"},
            "runtime": f"onnxruntime {ort.__version__} {PROVIDER}",
        }

    def _check_graph(self) -> tuple[type, tuple[int, int] | None]:
        """Compare graph and description; returns the inputs' element type and the size the graph is fixed to."""
        inputs = {value.name: value for value in self._session.get_inputs()}
        outputs = [value.name for value in self._session.get_outputs()]
        form = self.description.inputs
        if sorted(inputs) != sorted(form.names):
            raise not_stereo(self._path, f"expected the inputs {', '.join(form.names)}", self._session)
        if self.description.output.name not in outputs:
            raise not_stereo(self._path, f"expected an output {self.description.output.name}", self._session)
        channels = form.channels * (2 if len(form.names) == 1 else 1)
        first = inputs[form.names[0]]
        if first.type not in ELEMENT_TYPES:
            raise not_stereo(self._path, "expected float, float16 or uint8 inputs", self._session)
        shape = list(first.shape)
        if len(shape) != 4:
            raise not_stereo(self._path, "expected inputs with four axes", self._session)
        found = shape[1 if form.layout == "nchw" else 3]
        if isinstance(found, int) and found != channels:
            raise not_stereo(self._path, f"expected {channels} channels in layout {form.layout}", self._session)
        size = shape[2:4] if form.layout == "nchw" else shape[1:3]
        fixed = (size[0], size[1]) if all(isinstance(value, int) for value in size) else None
        return ELEMENT_TYPES[first.type], fixed

    def _plan(self, height: int, width: int) -> Fit:
        rule = self.description.size
        fixed = self._fixed or ((rule.fixed[0], rule.fixed[1]) if rule.fixed else None)
        if fixed:
            return Fit.plan(height, width, fixed, vertical=rule.vertical, horizontal=rule.horizontal)
        return Fit.to_multiple(height, width, rule.multiple, vertical=rule.vertical, horizontal=rule.horizontal)

    def _view(self, image: Image) -> npt.NDArray[np.float32]:
        """One fitted view, uint8 H×W×3 RGB → float32 H×W×C as the network wants its values."""
        form = self.description.inputs
        if form.colour == "gray":
            values = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None]
        else:
            values = image if form.colour == "rgb" else image[:, :, ::-1]
        scaled = values.astype(np.float32) * np.float32(form.scale)
        return ((scaled - np.array(form.mean, np.float32)) / np.array(form.std, np.float32)).astype(np.float32)

    def feeds(self, left: Image, right: Image) -> tuple[dict[str, npt.NDArray[Any]], Fit]:
        """What the network is given for a pair (uint8 H×W×3), by the names of its inputs; how the pair was fitted."""
        fit = self._plan(*left.shape[:2])
        views = [self._view(fit.image(view)) for view in (left, right)]
        form = self.description.inputs
        tensors = [np.concatenate(views, axis=2)] if len(form.names) == 1 else views
        if form.layout == "nchw":
            tensors = [tensor.transpose(2, 0, 1) for tensor in tensors]
        return {
            name: np.ascontiguousarray(tensor[None]).astype(self._dtype)
            for name, tensor in zip(form.names, tensors, strict=True)
        }, fit

    def infer(self, feeds: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Run the network once: its output as it is."""
        (output,) = self._session.run([self.description.output.name], feeds)
        return output

    def match(self, left: Image, right: Image) -> Disparity:
        """The network's own disparity of the left view, unmasked: uint8 H×W×3 → float32 H×W px.

        Raises:
            UserError: the output is not one plane of the input's size.
        """
        feeds, fit = self.feeds(left, right)
        try:
            output = self.infer(feeds)
        except runtime_errors() as error:
            raise not_stereo(
                self._path, f"it cannot run on {fit.network[0]}x{fit.network[1]}: {error}", self._session
            ) from error
        plane = np.squeeze(np.asarray(output))
        if plane.shape != fit.network:
            raise not_stereo(
                self._path,
                f"the output has shape {np.asarray(output).shape}, expected one plane of {fit.network}",
                self._session,
            )
        return fit.undo((plane.astype(np.float32) * np.float32(self.description.output.scale)).astype(np.float32))

    def predict(self, pair: StereoPair) -> TeacherOutput:
        """Disparity and confidence of one pair; see the class."""
        left, right = (self._mask(view) for view in disparity_of_both_views(self.match, pair.left, pair.right))
        return TeacherOutput(left, consistency_confidence(left_right_difference(left, right)), right=right)

    def left_disparity(self, pair: StereoPair) -> Disparity:
        """Disparity of the left view alone."""
        return self._mask(self.match(pair.left, pair.right))

    def _mask(self, disparity: Disparity) -> Disparity:
        usable = (disparity >= NEGATIVE_LIMIT_PX) & (disparity <= self.max_disp)
        return np.where(usable, np.maximum(disparity, 0), np.float32(np.nan)).astype(np.float32)


def recognised(session: Any) -> NetworkDescription:
    """The shipped description that has this graph's names, else our own convention."""
    inputs = sorted(value.name for value in session.get_inputs())
    outputs = {value.name for value in session.get_outputs()}
    for name in shipped_descriptions():
        shipped = read_description(name)
        if sorted(shipped.inputs.names) == inputs and shipped.output.name in outputs:
            log.info("the network has the names of %s: taking that shipped description", name)
            return shipped
    return NetworkDescription()


def runtime_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises for a bad file or input; its errors share no base class but Exception."""
    state = require("onnxruntime.capi.onnxruntime_pybind11_state", hint=INSTALL)
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "RuntimeException")
    return tuple(getattr(state, name) for name in names)


def open_session(path: Path, threads: int | None) -> Any:
    """An onnxruntime session on the CPU.

    Raises:
        UserError: no such file, not ONNX, or no onnxruntime.
    """
    ort = require("onnxruntime", hint=INSTALL)
    if not path.is_file():
        raise UserError("no such ONNX file", where=path, fix="check --teacher.model")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        if threads < 1:
            raise UserError(f"{threads} is below 1", where="--teacher.threads")
        options.intra_op_num_threads = threads
    try:
        return ort.InferenceSession(str(path), options, providers=[PROVIDER])
    except runtime_errors() as error:
        raise UserError(f"onnxruntime cannot load it: {error}", where=path, fix="is it an ONNX file?") from error

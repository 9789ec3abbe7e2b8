"""How an ONNX stereo network wants its images and gives its disparity, as a small YAML file tells it.

    name: my_network
    model: my_network.onnx          # relative to this file; --teacher.model wins
    inputs:
      names: [left, right]          # or one name: left and right stacked along the channels
      layout: nchw                  # or nhwc
      colour: rgb                   # or bgr, gray
      scale: 1.0                    # value = (pixel × scale - mean) / std, pixel 0 to 255
      mean: [0.0]                   # one number, or one per channel
      std: [1.0]
    size:
      multiple: 32                  # images are padded up to a multiple of this
      fixed: [480, 640]             # or: one size, H W; larger images are scaled down (a graph's own fixed size wins)
      vertical: bottom              # where padding goes: top, bottom, both
      horizontal: right             # left, right, both
    output:
      name: disparity
      scale: 1.0                    # disparity in px = value × scale; -1 where disparities come out negative
    max_disp: 192                   # larger values are masked

All but `name` may be left out; the values above are the defaults, except `model` and `fixed`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stereo.errors import UserError
from stereo.fit_size import Horizontal, Vertical

SHIPPED = Path(__file__).parent / "onnx_models"


@dataclass
class InputForm:
    """What goes in; see the module's docstring."""

    names: list[str] = field(default_factory=lambda: ["left", "right"])
    layout: Literal["nchw", "nhwc"] = "nchw"
    colour: Literal["rgb", "bgr", "gray"] = "rgb"
    scale: float = 1.0
    mean: list[float] = field(default_factory=lambda: [0.0])
    std: list[float] = field(default_factory=lambda: [1.0])

    @property
    def channels(self) -> int:
        """Channels of one view."""
        return 1 if self.colour == "gray" else 3


@dataclass
class SizeRule:
    """Which sizes the network takes."""

    multiple: int = 32
    fixed: list[int] | None = None
    vertical: Vertical = "bottom"
    horizontal: Horizontal = "right"


@dataclass
class OutputForm:
    """What comes out."""

    name: str = "disparity"
    scale: float = 1.0


@dataclass
class NetworkDescription:
    """A network; see the module's docstring."""

    name: str = "onnx"
    model: str | None = None
    inputs: InputForm = field(default_factory=InputForm)
    size: SizeRule = field(default_factory=SizeRule)
    output: OutputForm = field(default_factory=OutputForm)
    max_disp: int = 192


def check(description: NetworkDescription, *, where: object) -> NetworkDescription:
    """The description itself when its values make sense.

    Raises:
        UserError: they do not; names the key.
    """
    inputs, size = description.inputs, description.size
    allowed = (1, inputs.channels)
    complaints = (
        (len(inputs.names) not in (1, 2), "inputs.names", "one name (left and right stacked) or two"),
        (len(inputs.mean) not in allowed, "inputs.mean", f"one number or {inputs.channels}"),
        (len(inputs.std) not in allowed or 0 in inputs.std, "inputs.std", f"one number or {inputs.channels}, not 0"),
        (inputs.scale == 0, "inputs.scale", "a number that is not 0"),
        (description.output.scale == 0, "output.scale", "a number that is not 0"),
        (size.multiple < 1, "size.multiple", "1 or more"),
        (size.fixed is not None and (len(size.fixed) != 2 or min(size.fixed) < 1), "size.fixed", "height and width"),
        (description.max_disp < 1, "max_disp", "1 or more"),
    )
    for wrong, key, rule in complaints:
        if wrong:
            raise UserError(f"the value of '{key}' does not fit", where=where, fix=f"expected: {rule}")
    return description


def shipped_descriptions() -> list[str]:
    """Names of the descriptions that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def read_description(path: Path | str) -> NetworkDescription:
    """Read a description file, or a shipped one by its name.

    Raises:
        UserError: no such file, not YAML, an unknown key, or a value of the wrong type.
    """
    import yaml
    from jsonargparse import ArgumentError, ArgumentParser

    file = Path(path)
    if not file.suffix and str(path) in shipped_descriptions():
        file = SHIPPED / f"{path}.yaml"
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(
            f"cannot be read as a network description: {error}",
            where=file,
            fix=f"give a YAML file, or one of: {', '.join(shipped_descriptions())}",
        ) from error
    if not isinstance(content, dict):
        raise UserError("is not a network description", where=file, fix="write 'name:', 'inputs:', 'output:' ...")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(NetworkDescription, None)
    try:
        parsed = parser.instantiate_classes(parser.parse_object(content))
    except ArgumentError as error:
        raise UserError(f"the network description has an error: {error}", where=file) from error
    description = NetworkDescription(**{key: getattr(parsed, key) for key in NetworkDescription.__dataclass_fields__})
    return check(description, where=file)

"""The front door: `stereodistill VERB --config recipe.yaml --key value`.

A verb is a line in `VERBS`: a help text, the dataclass of its options (torch-free, so that `--help` works anywhere) and
the function that takes it; both are imported only when the verb is chosen. Options are checked by jsonargparse.
The function returns the path of what it made, which becomes the last line on stdout; all else goes to stderr.

Exit codes: 0 done, 1 our bug, 2 the user can fix it, 3 a check the user asked for failed, 130 Ctrl-C.
"""

from __future__ import annotations

import dataclasses
import difflib
import errno
import importlib
import itertools
import logging
import os
import re
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

from stereo.artifacts import disk_error
from stereo.errors import UserError

PROGRAM = "stereodistill"
FLAG_VALUES = ("true", "false", "yes", "no", "null")


@dataclasses.dataclass(frozen=True)
class Verb:
    """One verb of the command line.

    Args:
        help: one line for the overview.
        config: "module:Dataclass" with the options; fields made with `stereo.options.positional` have no dashes.
        function: "module:function" taking that dataclass, returning the path of what it made, or None.
    """

    help: str
    config: str
    function: str


VERBS: dict[str, Verb] = {
    "demo": Verb("run the whole chain, from stereo video to report", "distill.config:DemoConfig", "distill.demo:demo"),
    "doctor": Verb("what is installed and what works here", "deploy.config:DoctorConfig", "deploy.doctor:doctor"),
    "scenes": Verb("draw procedural stereo scenes", "distill.config:ScenesConfig", "distill.contact_sheet:scenes"),
    "convert-teacher": Verb(
        "make a fast-opening file of FoundationStereo's published weights",
        "teacher.config:ConvertTeacherConfig",
        "teacher.convert:convert_teacher",
    ),
    "label": Verb("pseudo-label a stereo source", "teacher.config:LabelConfig", "teacher.labelling:label"),
    "show": Verb("look at a label set in the browser", "teacher.config:ShowConfig", "teacher.show:show"),
    "pack": Verb("a label set as WebDataset shards", "stereo.packing:PackConfig", "stereo.packing:pack"),
    "curate": Verb(
        "drop labels that students cannot make sense of",
        "distill.curation_config:CurateConfig",
        "distill.curation:curate",
    ),
    "train": Verb("train a student, or FoundationStereo", "distill.config:TrainConfig", "distill.train:train"),
    "summary": Verb("cost of a student, block by block", "student.config:SummaryConfig", "student.summary:summary"),
    "widen": Verb("begin a wide student where a narrow one is", "student.config:WidenConfig", "student.widen:run"),
    "export": Verb("write a student as ONNX", "student.config:ExportConfig", "student.export:export"),
    "quantize": Verb(
        "FP32, FP16 and INT8 graphs of a student", "calibration.config:QuantizeConfig", "calibration.quantize:quantize"
    ),
    "sensitivity": Verb(
        "what each part of a student costs when quantised",
        "calibration.config:SensitivityConfig",
        "calibration.sensitivity:sensitivity",
    ),
    "build": Verb("build an engine from ONNX", "deploy.config:BuildConfig", "deploy.engine:build"),
    "profile": Verb("measure latency and memory", "deploy.config:ProfileConfig", "deploy.profile:profile"),
    "evaluate": Verb("measure accuracy against truth", "deploy.config:EvaluateConfig", "deploy.evaluate:evaluate"),
    "predict": Verb("disparity of one pair", "deploy.config:PredictConfig", "deploy.predict:predict"),
    "bundle": Verb("everything a board needs, in one archive", "deploy.config:BundleConfig", "deploy.bundle:bundle"),
    "flash": Verb(
        "install a bundle on a board, measure there, fetch the results",
        "deploy.config:FlashConfig",
        "deploy.flash:flash",
    ),
    "report": Verb("the latency/accuracy report", "deploy.config:ReportConfig", "deploy.report.report:report"),
}


def resolve(reference: str) -> Any:
    """Import "module:name"."""
    module, name = reference.split(":")
    return getattr(importlib.import_module(module), name)


def usage() -> str:
    """The overview of all verbs."""
    width = max(map(len, VERBS))
    lines = [f"usage: {PROGRAM} VERB [--config recipe.yaml] [--key value ...]", "", "verbs:"]
    lines += [f"  {name:<{width}}  {verb.help}" for name, verb in VERBS.items()]
    lines += ["", f"{PROGRAM} VERB --help tells the options of a verb; --debug shows tracebacks."]
    return "\n".join(lines)


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known word closest to a mistyped one, compared on the last part of dotted names too."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if not close:
        by_leaf = {name.rpartition(".")[2]: name for name in known}
        close = [by_leaf[leaf] for leaf in difflib.get_close_matches(word.rpartition(".")[2], by_leaf, n=1, cutoff=0.6)]
    return close[0] if close else None


def explain(message: str, known: Sequence[str]) -> UserError:
    """Turn jsonargparse's complaint into one line; an unknown key gets its nearest match."""
    message = " ".join(message.split())
    unknown = re.search(
        r"[Uu]nrecognized arguments: (?:--)?([\w.\-]+)|[Kk]ey '([\w.\-]+)' is not expected"
        r"|No action for key \"([\w.\-]+)\"|[Oo]ption '([\w.\-]+)'",
        message,
    )
    if unknown:
        key = next(group for group in unknown.groups() if group)
        match = nearest(key, known)
        fix = f"did you mean '{match}'?" if match else "--help lists the options"
        return UserError(f"unknown option '{key}'", fix=fix)
    return UserError(message, fix="--help lists the options")


def build_parser(name: str, config: type) -> Any:
    """A jsonargparse parser for one verb.

    Args:
        name: the verb.
        config: its options; see `Verb.config`.
    """
    from docstring_parser import parse
    from jsonargparse import ArgumentParser

    class Parser(ArgumentParser):
        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            known = [action.dest for action in self._actions]
            raise explain(message, known) from ex

    parser = Parser(prog=f"{PROGRAM} {name}", description=VERBS[name].help, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a YAML file with options; later options win")
    texts = {param.arg_name: param.description for param in parse(config.__doc__ or "").params}
    positional = [field for field in dataclasses.fields(config) if field.metadata.get("positional")]
    hints = importlib.import_module("typing").get_type_hints(config)
    for field in positional:
        extra = {"nargs": field.metadata["nargs"]} if field.metadata.get("nargs") else {}
        kind = hints[field.name] if not extra else str
        parser.add_argument(field.name, type=kind, help=texts.get(field.name), **extra)
    parser.add_class_arguments(config, None, skip={field.name for field in positional}, fail_untyped=True)
    return parser


def expand_shorthands(arguments: Sequence[str], shorthands: dict[str, str]) -> list[str]:
    """Spell options the way the parser knows them.

    `--teacher sgbm` stands for `--teacher.name sgbm`; dashes within a name stand for underscores.
    """
    expanded = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if re.fullmatch(r"--[A-Za-z][\w.\-]*", option):
            name = option[2:].replace("-", "_")
            argument = f"--{shorthands.get(name, name)}{equals}{value}"
        expanded.append(argument)
    return expanded


def complete_flags(arguments: Sequence[str], flags: Collection[str]) -> list[str]:
    """Give options that are true or false, and stand alone, their `true`: `--force` stands for `--force true`.

    Args:
        arguments: as the parser knows them.
        flags: the names of such options.
    """
    words = [*arguments, "--"]
    return [
        f"{word}=true" if word[2:] in flags and word[:2] == "--" and after.lower() not in FLAG_VALUES else word
        for word, after in itertools.pairwise(words)
    ]


def parse_config(name: str, arguments: Sequence[str]) -> Any:
    """Parse a verb's command line into its dataclass.

    Raises:
        UserError: an unknown option, or a value of the wrong type.
    """
    config = resolve(VERBS[name].config)
    parser = build_parser(name, config)
    from jsonargparse import ArgumentError

    try:
        flags = {action.dest for action in parser._actions if getattr(action, "_typehint", None) in (bool, bool | None)}
        words = expand_shorthands(arguments, getattr(config, "shorthands", {}))
        parsed = parser.parse_args(complete_flags(words, flags))
        values = parser.instantiate(parsed)
    except ArgumentError as error:
        raise explain(str(error), [action.dest for action in parser._actions]) from error
    fields = {field.name: getattr(values, field.name) for field in dataclasses.fields(config)}
    return config(**fields)


def run(arguments: Sequence[str]) -> Path | int | None:
    """Run one command line; see the module docstring for what comes back."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return None
    if arguments[0] == "--version":
        print(importlib.import_module("importlib.metadata").version(PROGRAM))
        return None
    name, rest = arguments[0], arguments[1:]
    if name not in VERBS:
        match = nearest(name, list(VERBS))
        raise UserError(f"unknown verb '{name}'", fix=f"did you mean '{match}'?" if match else f"see {PROGRAM} --help")
    config = parse_config(name, rest)
    function: Callable[[Any], Path | int | None] = resolve(VERBS[name].function)
    return function(config)


def explain_missing_package(error: ModuleNotFoundError) -> str:
    """What to install when a verb's own room needs a package that is not there."""
    extra = {"torch": "train", "pytorch_lightning": "train", "modelopt": "quantize", "openvino": "openvino",
             "onnxruntime": "onnxruntime", "safetensors": "train"}.get((error.name or "").split(".")[0])  # fmt: skip
    install = f"pip install 'stereodistill[{extra}]'" if extra else f"pip install {error.name}"
    return f"this verb needs the package {error.name} ({install})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the `stereodistill` command. Returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        made = run(words)
    except UserError as error:
        if debug:
            raise
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # Files that libraries write (logs, weights) fill a disk as well as our own artifacts do.
        if debug or error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"{PROGRAM}: error: {disk_error(error, Path(error.filename or '.'))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if debug or not error.name:
            raise
        print(f"{PROGRAM}: error: {explain_missing_package(error)}", file=sys.stderr)
        return 2
    except SystemExit as stop:  # --help and --print_config leave this way
        return stop.code if isinstance(stop.code, int) else 1
    if isinstance(made, int):
        return made
    if made is not None:
        print(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())

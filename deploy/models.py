"""What the words after `profile`, `evaluate` and `predict` stand for: files, folders of graphs, shipped students."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.export import METADATA_PREFIX
from deploy.onnx_stereo import read_stereo_graph
from deploy.results import ModelFacts
from deploy.runners.registry import SUFFIXES, installed
from stereo.artifacts import sha256_file
from stereo.errors import UserError

PRECISIONS = ("fp32", "fp16", "int8")
# Files that are a student, or a teacher, themselves and not made of one.
WEIGHTS = (".safetensors", ".pth")
# Which of the shipped students is taken when none is named: the most accurate first.
PREFERRED = ("small", "nano")
TORCH_FREE = "give an .onnx or .engine with --model, as stereodistill export and build make them"


def student_weights() -> Path:
    """The folder of the students that come with the package, found without importing it or torch."""
    spec = importlib.util.find_spec("student")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the package 'student' is missing from this installation")
    return Path(next(iter(spec.submodule_search_locations))) / "weights"


def shipped_students() -> dict[str, Path]:
    """Name → file of the students that come with the package."""
    return {path.stem: path for path in sorted(student_weights().glob("*.safetensors"))}


def default_student() -> str:
    """The name of the shipped student that is taken when none is named.

    Raises:
        UserError: none ships with this version.
    """
    shipped = shipped_students()
    for name in (*PREFERRED, *shipped):
        if name in shipped:
            return name
    raise UserError("no student ships with this version", fix="give a .safetensors or .onnx file with --model")


def refuse_without_torch(word: str) -> None:
    """Refuse a shipped student where torch is missing: its file holds weights, which need torch to become a network.

    Raises:
        UserError: it is one, and torch is missing.
    """
    if word in shipped_students() and not Path(word).exists() and not installed("torch"):
        raise UserError(f"the shipped student '{word}' needs torch, which is not installed here", fix=TORCH_FREE)


def resolve_model(word: str) -> list[Path]:
    """The files a word stands for: a file, the .onnx files of a folder, or a shipped student.

    Raises:
        UserError: nothing of these.
    """
    path = Path(word)
    if path.is_dir() and not (word in shipped_students() and not any(path.glob("*.onnx"))):
        graphs = sorted(path.glob("*.onnx"), key=lambda graph: (_rank(graph.stem), graph.name))
        if not graphs:
            raise UserError("no .onnx file in this folder", where=path, fix="stereodistill quantize writes some")
        return graphs
    if path.is_file():
        return [path]
    shipped = shipped_students()
    if word in shipped:
        return [shipped[word]]
    names = ", ".join(shipped) or "none yet"
    raise UserError("no such model file, folder or shipped student", where=word,
                    fix=f"give one of {', '.join(SUFFIXES)}; shipped students: {names}")  # fmt: skip


def resolve_models(words: Sequence[str]) -> list[Path]:
    """`resolve_model` of each word, each file once.

    Raises:
        UserError: a word that stands for nothing, or no word.
    """
    if not words:
        raise UserError("no model given", fix=f"give one of {', '.join(SUFFIXES)}")
    return list(dict.fromkeys(path for word in words for path in resolve_model(word)))


def variant_names(paths: Sequence[Path]) -> list[str]:
    """Short names that tell the files apart: "nano int8" for nano/int8.onnx, "student" for runs/a/student.onnx."""
    resolved = [path.resolve() for path in paths]
    depths = [2 if path.stem in PRECISIONS else 1 for path in resolved]
    while True:
        names = [
            " ".join((*path.parts[1:-1], path.stem)[-depth:]) for path, depth in zip(resolved, depths, strict=True)
        ]
        clashing = [
            index for index, name in enumerate(names)
            if names.count(name) > 1 and depths[index] < len(resolved[index].parts) - 1
        ]  # fmt: skip
        if not clashing:
            return names
        for index in clashing:
            depths[index] += 1


def model_facts(path: Path, metadata: Mapping[str, str], *, variant: str) -> ModelFacts:
    """What a model file and its runner say about the model.

    Args:
        metadata: of its runner.
        variant: how to call it.
    """
    facts = {key.removeprefix(METADATA_PREFIX): value for key, value in metadata.items()}
    digest = sha256_file(path)
    is_graph = path.suffix.lower() == ".onnx"
    return ModelFacts(
        variant=variant,
        path=str(path),
        sha256=digest,
        size_bytes=path.stat().st_size,
        preset=facts.get("preset"),
        precision=facts.get("precision") or (read_stereo_graph(path).precision if is_graph else "fp32"),
        max_disp=_whole(facts.get("max_disp")),
        iterations=_whole(facts.get("iterations")),
        source_sha256=facts.get("source_sha256") or (digest if path.suffix.lower() in WEIGHTS else None),
        role="reference" if facts.get("role") == "reference" else "variant",
    )


def _rank(stem: str) -> int:
    return PRECISIONS.index(stem) if stem in PRECISIONS else len(PRECISIONS)


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None

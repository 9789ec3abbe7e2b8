"""`stereodistill bundle`: everything that a board without network needs, in one archive.

manifest.json                       what it is and from what, size and sha256 of every other member; the first member
models/NAME/fp32.onnx ...           the variants, calibration.json and manifests beside them
wheels/stereodistill-*.whl          this project, as it runs here
locks/aarch64-cp310.txt ...         the versions, by checksum
wheelhouse/*.whl                    the packages they name
pairs/NAME/...                      pairs with truth to evaluate on, where given
sample/left.png, right.png          a pair to try predict on

The tar is the same, byte for byte, when its content is. `deploy.board.archive` reads it.
"""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import re
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.board.archive import KIND, MANIFEST, SCHEMA_VERSION, refuse_name
from deploy.board.refusal import Refusal
from deploy.config import BundleConfig
from deploy.models import resolve_models, variant_names
from deploy.onnx_stereo import read_stereo_graph
from deploy.own_wheel import own_wheel
from deploy.textured_pair import textured_pair
from deploy.wheelhouse import fill_wheelhouse, parse_targets
from stereo.artifacts import MANIFEST_NAME, atomic_path, commit, plain, sha256_bytes, sha256_file, tool_versions
from stereo.errors import UserError
from stereo.pictures import encode_png
from stereo.progress import progress
from stereo.truth_set import open_truth_set

Content = Path | bytes
MB = 1_000_000

log = logging.getLogger(__name__)


def bundle(config: BundleConfig) -> Path:
    """Write the archive.

    Raises:
        UserError: a model that is no graph of one size, pairs of no known layout, or no wheels.
    """
    out = Path(config.out)
    targets = parse_targets(config.targets) if config.wheelhouse else []
    graphs = [path.resolve() for path in resolve_models(config.models)]
    models = model_files(graphs)
    variants = describe_variants(models)
    content: dict[str, Content] = {**models, **provenance(models)}
    if config.pairs:
        content |= pair_files(Path(config.pairs))
    content |= sample_pair(variants[0])
    wheel, data = own_wheel()
    content[f"wheels/{wheel}"] = data
    with tempfile.TemporaryDirectory(prefix="stereodistill-") as scratch:
        if targets:
            folder = Path(scratch) / "wheelhouse"
            for name, text in fill_wheelhouse(folder, targets).items():
                content[f"locks/{name}"] = text.encode()
            content |= {f"wheelhouse/{path.name}": path for path in folder.iterdir()}
        about = {
            "variants": variants,
            "targets": [target.name for target in targets],
            "pairs": f"pairs/{clean(Path(config.pairs).resolve().name)}" if config.pairs else None,
            "config": plain({**dataclasses.asdict(config), "out": None}),
            "tools": tool_versions(),
            "commit": commit(),
        }
        write_archive(out, content, about)
    log.info("%s: %d files, %.1f MB", out, len(content) + 1, out.stat().st_size / MB)
    return out


def model_files(graphs: Sequence[Path]) -> dict[str, Content]:
    """Member name → graph; graphs of one folder stay together, under the folder's name.

    Raises:
        UserError: a file that is no graph.
    """
    for path in graphs:
        if path.suffix.lower() != ".onnx":
            raise UserError("is no .onnx file", where=path, fix="stereodistill export makes one of a student")
    folders = list(dict.fromkeys(path.parent for path in graphs))
    depth = 1
    while len({tail(folder, depth) for folder in folders}) < len(folders):
        depth += 1
    return {f"models/{tail(path.parent, depth)}/{clean(path.name)}": path for path in graphs}


def tail(folder: Path, depth: int) -> str:
    """The last parts of a path as one name."""
    return clean("-".join(folder.parts[1:][-depth:])) or "models"


def clean(name: str) -> str:
    """A name that every shell and file system takes as it is."""
    return re.sub(r"[^\w.+\-]", "_", name, flags=re.ASCII).lstrip(".-") or "_"


def describe_variants(models: Mapping[str, Content]) -> list[dict[str, Any]]:
    """What the manifest says of each graph.

    Raises:
        UserError: a graph that leaves its size open.
    """
    # Above models/ stands the root in the archive: names are made of what is below it.
    names = variant_names([Path("/") / name.removeprefix("models/") for name in models])
    variants = []
    for (member, path), name in zip(models.items(), names, strict=True):
        graph = read_stereo_graph(str(path))
        if graph.size is None:
            raise UserError("leaves its image size open", where=path, fix="export it with --size")
        height, width = graph.size
        variants.append({"name": name, "file": member, "precision": graph.precision, "height": height, "width": width})
    return variants


def provenance(models: Mapping[str, Content]) -> dict[str, Content]:
    """The records beside graphs: how they were calibrated, and from what they were made."""
    found: dict[str, Content] = {}
    for member, path in models.items():
        assert isinstance(path, Path)
        for record in (path.with_name("calibration.json"), path.with_name(MANIFEST_NAME)):
            if record.is_file():
                found[f"{member.rpartition('/')[0]}/{clean(record.name)}"] = record
    return found


def pair_files(folder: Path) -> dict[str, Content]:
    """All files of a folder of pairs, below its own name, which is what the report calls the data.

    Raises:
        UserError: no pairs with truth in it, or a file name that is not the same everywhere.
    """
    open_truth_set(str(folder))
    root = folder.resolve()
    found: dict[str, Content] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if not path.is_file() or any(part.startswith(".") for part in name.split("/")):
            continue
        try:
            refuse_name(name)
        except Refusal as refusal:
            raise UserError("this file name cannot travel", where=path, fix="rename it") from refusal
        found[f"pairs/{clean(root.name)}/{name}"] = path
    return found


def sample_pair(variant: Mapping[str, Any]) -> dict[str, Content]:
    """A drawn pair of a variant's size."""
    pair = textured_pair(variant["height"], variant["width"])
    return {"sample/left.png": encode_png(pair.left), "sample/right.png": encode_png(pair.right)}


def write_archive(out: Path, content: Mapping[str, Content], about: Mapping[str, Any]) -> None:
    """Write the tar with its manifest, whole or not at all.

    Args:
        content: member name → file or bytes.
        about: fields of the manifest beside the members.
    """
    names = sorted(content)
    with progress("packing", 2 * len(names), unit="files") as ticker:
        members = {}
        for name in names:
            members[name] = facts(content[name])
            ticker.advance()
        manifest = {"kind": KIND, "schema_version": SCHEMA_VERSION, **about, "members": members}
        text = (json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
        with atomic_path(out) as temporary, tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
            add(tar, MANIFEST, text)
            for name in names:
                add(tar, name, content[name])
                ticker.advance()


def facts(content: Content) -> dict[str, Any]:
    """Size and checksum of a member."""
    if isinstance(content, bytes):
        return {"sha256": sha256_bytes(content), "size_bytes": len(content)}
    return {"sha256": sha256_file(content), "size_bytes": content.stat().st_size}


def add(tar: tarfile.TarFile, name: str, content: Content) -> None:
    """Add one member; nothing of it tells when or by whom it was made."""
    entry = tarfile.TarInfo(name)
    entry.mode = 0o644
    if isinstance(content, bytes):
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
        return
    entry.size = content.stat().st_size
    with content.open("rb") as file:
        tar.addfile(entry, file)

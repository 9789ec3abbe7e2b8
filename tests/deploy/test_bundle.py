"""What goes into a bundle, and that the same content makes the same archive."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.board.archive import check
from deploy.bundle import model_files
from deploy.flash import choose
from stereo.cli import main
from stereo.errors import UserError

MakeNetwork = Callable[..., Path]


@pytest.fixture
def toys(tmp_path: Path, make_network: MakeNetwork) -> Path:
    folder = tmp_path / "runs" / "toy"
    for precision in ("fp32", "int8"):
        make_network(folder / f"{precision}.onnx", metadata={"precision": precision})
    for record in ("calibration.json", "manifest.json"):
        (folder / record).write_text("{}")
    return folder


def make(out: Path, *words: object) -> dict[str, Any]:
    assert main(["bundle", *map(str, words), "--wheelhouse", "false", "--out", str(out)]) == 0
    return check(str(out))


def test_what_is_in_it(toys: Path, pairs_folder: Path, tmp_path: Path) -> None:
    manifest = make(tmp_path / "b.tar", toys, "--pairs", pairs_folder)
    names = list(manifest["members"])
    assert names == sorted(names)
    for name in ("models/toy/fp32.onnx", "models/toy/int8.onnx", "models/toy/calibration.json",
                 "models/toy/manifest.json", "sample/left.png"):  # fmt: skip
        assert name in names
    assert sum(name.startswith("wheels/stereodistill-") for name in names) == 1
    assert f"{manifest['pairs']}/near/left.png" in names
    assert [(each["name"], each["height"], each["width"]) for each in manifest["variants"]] == [
        ("toy fp32", 64, 96), ("toy int8", 64, 96),
    ]  # fmt: skip


def test_the_same_content_makes_the_same_bytes(toys: Path, tmp_path: Path) -> None:
    make(tmp_path / "a.tar", toys)
    for path in toys.iterdir():
        os.utime(path, (1, 1))
        path.chmod(0o600)
    make(tmp_path / "b.tar", toys)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert {(each.mtime, each.uid, each.gid, each.uname, each.mode) for each in tar} == {(0, 0, 0, "", 0o644)}


def test_folders_of_one_name_stay_apart(tmp_path: Path) -> None:
    graphs = [tmp_path / run / "toy" / "int8.onnx" for run in ("a", "b")]
    assert list(model_files(graphs)) == ["models/a-toy/int8.onnx", "models/b-toy/int8.onnx"]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("", "toy fp32,toy int8"),
        ("int8", "toy int8"),
        ("toy/int8,int8", "toy int8"),
        ("int8,fp32", "toy int8,toy fp32"),
    ],
)
def test_variants_are_chosen_by_name(wanted: str, chosen: str) -> None:
    variants = [
        {"name": f"toy {each}", "precision": each, "file": f"models/toy/{each}.onnx"} for each in ("fp32", "int8")
    ]
    assert ",".join(each["name"] for each in choose(variants, wanted)) == chosen


def test_an_unknown_variant() -> None:
    with pytest.raises(UserError, match="it has toy fp32"):
        choose([{"name": "toy fp32", "precision": "fp32", "file": "models/toy/fp32.onnx"}], "int4")


def test_what_cannot_go_in(
    toys: Path, tmp_path: Path, make_network: MakeNetwork, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b.tar"
    command = ["bundle", "--wheelhouse", "false", "--out", str(out)]
    open_size = make_network(tmp_path / "open.onnx", size=None)
    (tmp_path / "x.safetensors").touch()
    for words, told in (
        ([str(open_size)], "leaves its image size open"),
        ([str(tmp_path / "x.safetensors")], "no .onnx file"),
        ([str(toys), "--pairs", str(tmp_path / "nothing")], "nothing"),
        ([str(toys), "--wheelhouse", "true", "--targets", "riscv-cp310"], "unknown target"),
    ):
        assert main([*command, *words]) == 2
        assert told in capsys.readouterr().err
    assert not out.exists()

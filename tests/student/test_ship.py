"""What ships: weights with a complete record, without data that may not ship, and a card that equals both."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deploy import models
from deploy.results import ImageAccuracy, ModelFacts, Place, make_row, write_results
from stereo.artifacts import sha256_file
from stereo.errors import UserError
from stereo.label_set import LabelledFrame
from stereo.label_set_writer import LabelSetWriter
from student import model_card, ship
from student.checkpoint import load_student, read_metadata, save_student
from student.model_card import card_text, read_card
from student.presets import build_student
from student.ship import shipped_problems
from student.shipped_record import NON_COMMERCIAL, refuse_non_commercial, strings

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / "student" / "weights").glob("*.safetensors"))


@pytest.fixture
def textures(tmp_path: Path) -> Path:
    """Two photographs with source and licence."""
    folder = tmp_path / "photos" / "skimage"
    folder.mkdir(parents=True)
    for name in ("brick.jpg", "coins.jpg"):
        (folder / name).write_bytes(b"photo")
    (folder / "README.json").write_text(json.dumps({"source": "scikit-image", "licence": "CC0"}))
    return folder.parent


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where the shipped weights lie."""
    monkeypatch.setattr(models, "student_weights", lambda: tmp_path / "weights")
    monkeypatch.setattr(ship, "student_weights", lambda: tmp_path / "weights")
    return tmp_path / "weights"


def training(textures: Path, **changes: Any) -> dict[str, Any]:
    """A record as `train` writes it."""
    data = {"labels": [], "textures": str(textures), "crop": "64x96", "batch_size": 4, "scene_share": 0.5}
    config = {"out": "/somewhere/runs/a", "preset": "tiny", "init": None, "seed": 3, "data": data, "restart": False,
              "pairs": "/data/pairs"}  # fmt: skip
    record = {
        "config": config, "made_from": {}, "tools": {"torch": "2.13"}, "commit": "0123456789ab", "steps": 100,
        "samples": 400, "seconds": 1800.0, "precision": "32-true", "device": "Made-up CPU, 2 cores",
        "validation": {"step": 100, "pairs": {"mean": {"epe": 1.5}, "images": {"kitti2015": {"epe": 1.5}}}},
    }  # fmt: skip
    return {**record, **changes}


def trained(tmp_path: Path, record: dict[str, Any]) -> Path:
    """A trained student that is not shipped yet."""
    torch.manual_seed(0)
    return save_student(build_student("tiny", max_disp=64), tmp_path / "student.safetensors", training=record)


def result_row(path: Path, sha256: str, epes_px: tuple[float, ...], masks: tuple[str, ...] = ("noc",)) -> Any:
    """Results of `evaluate` on images of these errors, under each mask."""
    numbers = {"bad1_pct": 9.0, "bad2_pct": 5.0, "bad3_pct": 3.0, "d1_pct": 4.0, "max_error_px": 9.0,
               "p99_error_px": 8.0, "valid_pixels": 100, "coverage_pct": 100.0}  # fmt: skip
    entries = [
        ImageAccuracy("pairs", name, mask, 64, 96, 1.0, epe_px + 0.5 * index, **numbers)  # type: ignore[arg-type]
        for name, epe_px in zip(("teddy", "cones"), epes_px, strict=False)
        for index, mask in enumerate(masks)
    ]
    place = Place("torch", "2.13", "f32", "Made-up CPU", 1, None, None, None)
    return make_row(ModelFacts("nano", path=str(path), sha256=sha256, max_disp=64), place, accuracy=tuple(entries))


def test_masks_are_averaged_apart_where_an_image_has_several(tmp_path: Path, weights: Path, textures: Path) -> None:
    ship.main([str(trained(tmp_path, training(textures))), "--name", "nano"])
    shipped = weights / "nano.safetensors"
    model_card.write_card(shipped, [result_row(shipped, sha256_file(shipped), (1.0, 2.0), masks=("noc", "all"))])
    text = (weights / "nano.md").read_text()
    assert "| mean of 2, pairs | noc | 1.50 |" in text
    assert "| mean of 2, pairs | all | 2.00 |" in text


def test_a_card_tells_limits_and_goes_on_telling_them(tmp_path: Path, weights: Path, textures: Path) -> None:
    ship.main([str(trained(tmp_path, training(textures))), "--name", "nano"])
    assert "## Limits" not in (weights / "nano.md").read_text()
    model_card.main(["nano", "--limits", "Not for stairs."])
    assert "## Limits\n\nNot for stairs." in (weights / "nano.md").read_text()
    assert ship.shipped_problems(weights / "nano.safetensors") == []


def test_a_student_of_a_teacher_in_the_loop_does_not_ship(textures: Path) -> None:
    record = training(textures)
    record["config"]["teacher"] = {"checkpoint": "weights/model_best_bp2.pth", "replaces": "labels"}
    with pytest.raises(UserError, match="FoundationStereo in the loop"):
        refuse_non_commercial(record)


def test_shipping_keeps_the_weights_and_completes_the_record(tmp_path: Path, weights: Path, textures: Path) -> None:
    source = trained(tmp_path, training(textures))
    assert ship.main([str(source), "--name", "nano"]) == 0
    shipped = weights / "nano.safetensors"
    record = read_metadata(shipped)["training"]
    assert record["textures"] == [
        {"name": "skimage", "source": "scikit-image", "licence": "CC0", "files": ["brick.jpg", "coins.jpg"]}
    ]
    assert record["trained_file_sha256"] == sha256_file(source)
    assert not [text for text in strings(record) if "/" in text]
    assert (record["config"]["data"]["textures"], record["config"]["pairs"]) == ("photos", "pairs")
    card = (weights / "nano.md").read_text()
    for said in ("license: apache-2.0", "100 steps, 400 samples", "seed 3", "0.50 hours on Made-up CPU, 2 cores",
                 "brick.jpg, coins.jpg", "licence: CC0", "Not measured."):  # fmt: skip
        assert said in card
    assert shipped_problems(shipped) == []


def test_a_smaller_range_than_trained_may_be_the_usual_one(tmp_path: Path, weights: Path, textures: Path) -> None:
    record = training(textures)
    record["config"]["max_disp"] = 64
    shipped = ship.ship(trained(tmp_path, record), "nano", trained_on=None, licences={}, max_disp=32)
    assert load_student(shipped).config.max_disp == 32
    assert load_student(shipped, max_disp=64).config.max_disp == 64
    assert "up to 32 px (trained up to 64 px: `--max_disp 64`)" in shipped.with_suffix(".md").read_text()
    assert not ship.shipped_problems(shipped)


def test_card_takes_the_results_of_this_file_alone(tmp_path: Path, weights: Path, textures: Path) -> None:
    ship.main([str(trained(tmp_path, training(textures))), "--name", "nano"])
    shipped = weights / "nano.safetensors"
    rows = [result_row(shipped, sha256_file(shipped), (1.25, 2.5)), result_row(shipped, "another", (7.75,))]
    write_results(tmp_path / "results.json", rows)
    assert model_card.main(["nano", "--results", str(tmp_path / "results.json")]) == 0
    text = (weights / "nano.md").read_text()
    assert "| teddy | noc | 1.25 | 9.00 | 5.00 | 4.00 |" in text
    assert "| mean of 2, pairs | as above | 1.88 | 9.00 |" in text
    assert "7.75" not in text
    assert shipped_problems(shipped) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("100 steps", "900 steps", "the text of nano.md differs"),
        ('"steps": 100', '"steps": 900', "nano.md differs from nano.safetensors in training"),
        ("```json", "```", "has no record"),
    ],
)
def test_card_that_says_something_else_is_found(
    tmp_path: Path, weights: Path, textures: Path, old: str, new: str, told: str
) -> None:
    ship.main([str(trained(tmp_path, training(textures))), "--name", "nano"])
    card = weights / "nano.md"
    assert old in card.read_text()
    card.write_text(card.read_text().replace(old, new))
    assert told in " ".join(shipped_problems(weights / "nano.safetensors"))


def test_weights_without_card_too_large_not_finite_or_of_kitti_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = build_student("tiny", max_disp=64)
    path = save_student(student, tmp_path / "a.safetensors", training={"config": {"data": {"labels": ["KITTI"]}}})
    assert "does not allow to ship" in " ".join(shipped_problems(path))
    path = save_student(student, tmp_path / "a.safetensors", training={})
    assert "no model card" in " ".join(shipped_problems(path))
    monkeypatch.setattr(ship, "LARGEST_BYTES", 1000)
    assert "more than 0.001 MB" in " ".join(shipped_problems(path))
    with torch.no_grad():
        next(student.parameters()).view(-1)[0] = math.nan
    path = save_student(student, tmp_path / "a.safetensors", training={})
    assert "not finite" in " ".join(shipped_problems(path))


@pytest.mark.parametrize("name", [*NON_COMMERCIAL, "Scene_Flow", "my KITTI-2015 labels", "Foundation Stereo"])
@pytest.mark.parametrize("place", ["labels", "textures", "made_from", "init", "started_from"])
def test_data_that_may_not_ship_is_refused_by_name(place: str, name: str) -> None:
    config: dict[str, Any] = {"data": {"labels": [], "textures": None}, "pairs": "kitti pairs", "init": None}
    record: dict[str, Any] = {"config": config, "made_from": {}, "validation": {"kitti": 1}}
    refuse_non_commercial(record)  # what it was scored on is no matter
    if place in ("labels", "textures"):
        config["data"][place] = f"/data/{name}/a"
    elif place == "made_from":
        record[place] = {f"/data/{name}": "0" * 64}
    elif place == "init":
        config[place] = name
    else:
        record[place] = {"name": "a.safetensors", "training": {"labels": [{"name": name}]}}
    with pytest.raises(UserError, match="does not allow to ship"):
        refuse_non_commercial(record)


def test_what_is_missing_is_told(
    tmp_path: Path, weights: Path, textures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(record: dict[str, Any]) -> str:
        with pytest.raises(SystemExit) as stop:
            ship.main([str(trained(tmp_path, record)), "--name", "nano"])
        assert stop.value.code == 2
        return capsys.readouterr().err

    assert "does not say which device" in told(training(textures, device=None))
    (textures / "skimage" / "README.json").write_text(json.dumps({"source": "scikit-image"}))
    assert "does not say source and licence" in told(training(textures))
    shutil.rmtree(textures)
    assert "no such folder of photographs" in told(training(textures))
    assert not weights.exists()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_student_may_ship(path: Path) -> None:
    assert shipped_problems(path) == []


def test_every_card_has_its_weights() -> None:
    cards = {path.stem for path in (ROOT / "student" / "weights").glob("*.md")}
    assert cards == {path.stem for path in SHIPPED}


def test_what_it_started_from_is_told_and_judged_too(tmp_path: Path, weights: Path, textures: Path) -> None:
    parent = save_student(build_student("tiny", max_disp=64), tmp_path / "parent.safetensors", training={"steps": 7})
    record = training(textures, made_from={str(parent): sha256_file(parent)})
    record["config"]["init"] = str(parent)
    shipped = ship.ship(trained(tmp_path, record), "nano", trained_on=None, licences={})
    start = read_metadata(shipped)["training"]["started_from"]
    assert start == {"name": parent.name, "sha256": sha256_file(parent), "training": {"steps": 7}}
    assert (
        f"started from the weights parent.safetensors (sha256 {start['sha256']})" in (weights / "nano.md").read_text()
    )

    middle = tmp_path / "middle.safetensors"
    between = training(textures, made_from={str(parent): sha256_file(parent)}, samples=50)
    between["config"] = {**between["config"], "init": str(parent), "data": {**between["config"]["data"], "stages": [
        {"start": 0.5, "crop": "96x192"}]}}  # fmt: skip
    save_student(build_student("tiny", max_disp=64), middle, training=between)
    last = training(textures, made_from={str(middle): sha256_file(middle)})
    last["config"]["init"] = str(middle)
    shipped = ship.ship(trained(tmp_path, last), "nano", trained_on=None, licences={})
    start = read_metadata(shipped)["training"]["started_from"]
    assert start["training"]["started_from"]["name"] == "parent.safetensors"
    text = (weights / "nano.md").read_text()
    assert "2. 100 steps, 50 samples of 64x96, then 96x192 px" in text
    assert "450 samples in all." in text
    assert shipped_problems(shipped) == []

    save_student(build_student("tiny", max_disp=64), parent, training={"steps": 8})
    with pytest.raises(UserError, match="is not the file that the training started from"):
        ship.ship(trained(tmp_path, record), "nano", trained_on=None, licences={})
    save_student(build_student("tiny", max_disp=64), parent, training={"labels": ["/data/kitti"]})
    record["made_from"] = {str(parent): sha256_file(parent)}
    with pytest.raises(UserError, match="the licence of kitti does not allow"):
        ship.ship(trained(tmp_path, record), "nano", trained_on=None, licences={})


def test_no_folder_of_the_machine_stays_among_what_ancestors_were_made_from(
    tmp_path: Path, weights: Path, textures: Path
) -> None:
    parent = tmp_path / "parent.safetensors"
    own = training(textures, made_from={"/home/me/runs/first.safetensors": "0" * 64, "/home/me/photos": "1" * 64})
    own["textures"] = [{"name": "skimage", "source": "scikit-image 0.26 wheel skimage/data", "licence": "CC0/MIT"}]
    save_student(build_student("tiny", max_disp=64), parent, training=own)
    record = training(textures, made_from={str(parent): sha256_file(parent)})
    record["config"]["init"] = str(parent)
    shipped = ship.ship(trained(tmp_path, record), "nano", trained_on=None, licences={})
    kept = read_metadata(shipped)["training"]["started_from"]["training"]
    assert kept["made_from"] == {"first.safetensors": "0" * 64, "photos": "1" * 64}
    assert kept["textures"] == own["textures"]  # texts with a slash in them are no paths
    for file in (shipped, weights / "nano.md"):
        assert b"/home/me" not in file.read_bytes()


def test_a_widening_is_told_as_what_it_is(tmp_path: Path, weights: Path, textures: Path) -> None:
    wide = tmp_path / "wide.safetensors"
    start = {"name": "nano.safetensors", "sha256": "2" * 64, "training": training(textures, samples=50)}
    save_student(build_student("tiny", max_disp=64), wide,
                 training={"widened": {"preset": "nano", "seed": 0}, "started_from": start})  # fmt: skip
    record = training(textures, made_from={str(wide): sha256_file(wide)})
    record["config"]["init"] = str(wide)
    shipped = ship.ship(trained(tmp_path, record), "nano", trained_on=None, licences={})
    text = (weights / "nano.md").read_text()
    assert "2. Widened from a nano (`stereodistill widen`, seed 0), without training." in text
    assert "450 samples in all." in text
    assert shipped_problems(shipped) == []


def test_a_widening_hides_nothing_of_what_came_before(tmp_path: Path, weights: Path, textures: Path) -> None:
    first, second, wide = (tmp_path / f"{name}.safetensors" for name in ("first", "second", "wide"))
    of_first = training(textures)
    of_first["config"]["data"]["labels"] = ["/data/kitti"]
    save_student(build_student("tiny", max_disp=64), first, training=of_first)
    of_second = training(textures, made_from={str(first): sha256_file(first)})
    of_second["config"]["init"] = str(first)
    save_student(build_student("tiny", max_disp=64), second, training=of_second)
    start = {"name": second.name, "sha256": sha256_file(second), "training": of_second}
    save_student(build_student("tiny", max_disp=64), wide,
                 training={"widened": {"preset": "tiny", "seed": 0}, "started_from": start})  # fmt: skip
    record = training(textures, made_from={str(wide): sha256_file(wide)})
    record["config"]["init"] = str(wide)
    with pytest.raises(UserError, match="the licence of kitti does not allow"):
        ship.ship(trained(tmp_path, record), "nano", trained_on=None, licences={})


def label_set(folder: Path, *, source: str, teacher: str) -> Path:
    """A label set of one frame."""
    identity = {"source": {"kind": "folder", "path": source}, "teacher": {"name": "onnx", "network": teacher}}
    writer = LabelSetWriter(folder, identity=identity, max_disp=64)
    view = np.zeros((64, 96, 3), np.uint8)
    plane = np.ones((64, 96), np.float32)
    writer.add(0, LabelledFrame("000000", view, view, plane, plane))
    writer.finish()
    return folder


@pytest.mark.parametrize(
    ("source", "teacher", "licences", "told"),
    [
        ("/data/own", "mine", {}, "the licence of this label set is not told"),
        ("/data/kitti/seq_1", "mine", {"set": "MIT"}, "the licence of kitti does not allow"),
        ("/data/own", "hitnet_eth3d", {"set": "MIT"}, "the licence of eth3d does not allow"),
        ("/data/own", "mine", {"set": "MIT"}, None),
    ],
)
def test_label_sets_need_a_licence_that_allows_it(
    tmp_path: Path, weights: Path, textures: Path, source: str, teacher: str, licences: dict[str, str], told: str | None
) -> None:
    record = training(textures)
    record["config"]["data"]["labels"] = [str(label_set(tmp_path / "set", source=source, teacher=teacher))]
    student = trained(tmp_path, record)
    if told is not None:
        with pytest.raises(UserError, match=told):
            ship.ship(student, "nano", trained_on=None, licences=licences)
        assert not weights.exists()
        return
    shipped = ship.ship(student, "nano", trained_on=None, licences=licences)
    assert "pseudo-labels set of the teacher mine, licence: MIT" in (weights / "nano.md").read_text()
    assert shipped_problems(shipped) == []


def test_text_follows_from_the_record(tmp_path: Path, weights: Path, textures: Path) -> None:
    ship.main([str(trained(tmp_path, training(textures))), "--name", "nano"])
    facts = read_card(weights / "nano.md")
    facts["training"]["samples"] = 123_456
    assert "123,456 samples" in card_text(facts)


@pytest.mark.slow
def test_weights_and_cards_are_in_the_wheel(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    rooms = ("stereo", "teacher", "student", "distill", "calibration", "deploy")
    for room in rooms:
        shutil.copytree(ROOT / room, tree / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    (tree / "student" / "weights").mkdir(exist_ok=True)
    (tree / "student" / "weights" / "stand_in.safetensors").write_bytes(b"weights")
    (tree / "student" / "weights" / "stand_in.md").write_bytes(b"card")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    done = subprocess.run([*command, "-w", str(tmp_path / "wheel"), str(tree)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "wheel").glob("stereodistill-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"student/weights/stand_in{suffix}" for suffix in (".safetensors", ".md")}
    expected |= {f"student/weights/{path.name}" for path in SHIPPED}
    expected |= {f"student/weights/{path.stem}.md" for path in SHIPPED}
    assert expected <= names

"""FoundationStereo behind the verbs: labelling, predicting, settings, memory, half precision."""

import json

import cv2
import numpy as np
import pytest
import torch

from deploy.runners.registry import open_runner
from stereo.cli import main
from stereo.disparity_files import read_pfm
from stereo.errors import UserError
from stereo.label_set import LabelSet
from stereo.pair import StereoPair
from stereo.pictures import write_png
from teacher.checkpoints import load_foundation_stereo, save_foundation_stereo
from teacher.config import TeacherOptions
from teacher.consistency import consistency_confidence, left_right_difference
from teacher.foundation_stereo import FoundationStereo
from teacher.foundation_teacher import FoundationTeacher, Settings
from teacher.memory_estimate import Need, check_memory, estimate_bytes
from teacher.registry import open_teacher

CPU = torch.device("cpu")
HEIGHT, WIDTH, SHIFT = 70, 130, 6


def wall(seed=0):
    """A textured wall at a known disparity, and its name."""
    noise = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH + SHIFT, 3), np.uint8)
    blurred = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 0, 255, cv2.NORM_MINMAX)
    left, right = np.ascontiguousarray(blurred[:, :WIDTH]), np.ascontiguousarray(blurred[:, SHIFT:])
    return StereoPair(left, right, name=f"{seed:06d}")


@pytest.fixture(scope="module")
def weights(tiny_config, tmp_path_factory):
    torch.manual_seed(0)
    network = FoundationStereo(tiny_config)
    with torch.no_grad():
        network.filtering.classifier[2].weight.mul_(300)
    return save_foundation_stereo(network.eval(), tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def teacher_with(weights, **settings):
    return FoundationTeacher(load_foundation_stereo(weights), Settings(iterations=2, **settings), device=CPU)


def test_labels_are_the_networks_disparity_checked_against_the_right_view(weights):
    pair = wall()
    teacher = teacher_with(weights)
    output = teacher.predict(pair)
    images = [torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float() for image in (pair.left, pair.right)]
    both = teacher.network.predict_both(*images, iterations=2)
    left, right = (view[0, 0].numpy() for view in both)
    kept = ~np.isnan(output.disparity)
    assert kept.mean() > 0.5
    np.testing.assert_array_equal(output.disparity[kept], left[kept])
    assert np.all((left[~kept] < 0) | (left[~kept] > teacher.max_disp))
    right = np.where((right >= 0) & (right <= teacher.max_disp), right, np.nan).astype(np.float32)
    expected = consistency_confidence(left_right_difference(output.disparity, right))
    np.testing.assert_array_equal(output.confidence, expected)


def test_the_exact_check_is_a_second_pass(weights):
    pair = wall()
    exact, shared = (teacher_with(weights, consistency=kind).predict(pair) for kind in ("exact", "shared"))
    np.testing.assert_allclose(exact.disparity, shared.disparity, atol=1e-2)
    assert exact.confidence.shape == shared.confidence.shape
    assert np.abs(exact.confidence - shared.confidence).max() > 0, "the right views should differ a little"


def test_scale_brings_disparities_back_at_full_size(weights):
    teacher = teacher_with(weights, scale=0.5)
    assert teacher.max_disp == 2 * teacher.network.config.max_disp
    pair = wall()
    output = teacher.predict(pair)
    assert output.disparity.shape == (HEIGHT, WIDTH)
    half = [
        cv2.resize(image, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA) for image in (pair.left, pair.right)
    ]
    small = teacher_with(weights).predict(StereoPair(*half, name="half")).disparity
    assert np.nanmean(output.disparity) == pytest.approx(2 * np.nanmean(small), rel=0.02)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_types_label_alike(weights, precision):
    pair = wall()
    full, half = (teacher_with(weights, precision=kind).predict(pair).disparity for kind in ("fp32", precision))
    both = ~np.isnan(full) & ~np.isnan(half)
    assert both.mean() > 0.5
    assert np.median(np.abs(full - half)[both]) < 0.5


def test_hierarchical_labels(weights):
    teacher = teacher_with(weights, hierarchical=True, consistency="exact")
    assert teacher.predict(wall()).disparity.shape == (HEIGHT, WIDTH)
    with pytest.raises(UserError, match="cannot share"):
        teacher_with(weights, hierarchical=True)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"iterations": 0}, "0 is below 1"),
        ({"scale": 0.0}, "not between"),
        ({"scale": -1.0}, "not between"),
        ({"max_disp": 100}, "the next one is 128"),
        ({"threads": 0}, "0 is below 1"),
        ({"vit": "vitl"}, "asked for was vitl"),
        ({"model": "x.onnx"}, "has no model"),
        ({"hierarchical": True, "consistency": "shared"}, "cannot share"),
    ],
)
def test_options_that_cannot_work(weights, options, told):
    with pytest.raises(UserError, match=told):
        open_teacher(TeacherOptions(name="foundation_stereo", checkpoint=str(weights), **options))


def test_a_gpu_that_is_not_there_is_no_reason_for_the_cpu(weights):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match="no CUDA device"):
        open_teacher(TeacherOptions(name="foundation_stereo", checkpoint=str(weights), device="cuda"))


def test_other_teachers_refuse_its_options():
    with pytest.raises(UserError, match=r"teacher sgbm has no iterations.*foundation_stereo"):
        open_teacher(TeacherOptions(name="sgbm", iterations=3))


def test_images_too_small_are_told(weights):
    small = np.zeros((20, 40, 3), np.uint8)
    with pytest.raises(UserError, match="too small"):
        teacher_with(weights).predict(StereoPair(small, small, name="tiny"))


def test_too_little_memory_is_said_before(weights, monkeypatch):
    monkeypatch.setattr("teacher.foundation_teacher.free_bytes", lambda device: 1000)
    with pytest.raises(UserError, match=r"GB \(estimated\).*--teacher.scale 0.5"):
        teacher_with(weights).predict(wall())
    check_memory(Need(2000, None), what="anything")
    check_memory(Need(2000, 2000), what="anything")


def test_the_estimate_grows_with_what_costs():
    def estimate(height=480, width=640, max_disp=416, views=1, bytes_per_value=4):
        return estimate_bytes(
            height, width, max_disp=max_disp, volume_width=28, views=views, bytes_per_value=bytes_per_value
        )

    assert estimate(views=2) == 2 * estimate()
    assert estimate(height=960) == 2 * estimate()
    assert estimate() < estimate(max_disp=832) < 2 * estimate()
    assert 0.5 * estimate() < estimate(bytes_per_value=2) < estimate()


@pytest.fixture
def clip(tmp_path):
    for number in range(3):
        pair = wall(number)
        for side, view in (("left", pair.left), ("right", pair.right)):
            write_png(tmp_path / "clip" / side / f"{number:06d}.png", view)
    return tmp_path / "clip"


def test_the_verb_label_makes_a_set(weights, clip, tmp_path, capsys):
    out = tmp_path / "set"
    command = ["label", str(clip), "--teacher", "foundation_stereo", "--teacher.checkpoint", str(weights)]
    command += ["--teacher.iterations", "2", "--out", str(out)]
    assert main(command) == 0
    labels = LabelSet.open(out)
    assert len(labels) == 3
    teacher = teacher_with(weights)
    first = labels.read(0)
    expected = teacher.predict(wall(0))
    np.testing.assert_allclose(first.disparity, expected.disparity, atol=0.5 / 256 + 1e-4)
    told = json.loads((out / "manifest.json").read_text())
    assert told["teacher"]["weights_sha256"] == teacher.network.weights_sha256
    assert told["teacher"]["settings"]["iterations"] == 2
    capsys.readouterr()
    assert main([*command[:-4], "--teacher.iterations", "1", "--out", str(out)]) == 2, "other labels, other set"


def test_the_verb_predict_takes_it_as_a_model(weights, clip, tmp_path):
    command = ["predict", str(clip / "left" / "000000.png"), str(clip / "right" / "000000.png")]
    assert main([*command, "--model", str(weights), "--iterations", "2", "--out", str(tmp_path / "a")]) == 0
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert manifest["model"]["iterations"] == 2
    assert manifest["model"]["preset"] == "foundation_stereo_tiny"
    assert manifest["model"]["role"] == "reference"
    assert read_pfm(tmp_path / "a" / "disparity.pfm").shape == (HEIGHT, WIDTH)


def test_iterations_fixed_in_a_file_cannot_be_chosen(tmp_path):
    (tmp_path / "graph.onnx").write_bytes(b"")
    with pytest.raises(UserError, match="fixed in this file"):
        open_runner(tmp_path / "graph.onnx", iterations=2)
    with pytest.raises(UserError, match="0 iterations"):
        open_runner(tmp_path / "graph.onnx", iterations=0)


def test_published_weights_label_real_frames(recipe_state, shared_data, tmp_path):
    """The whole path on real footage, with recipe weights: the numbers mean nothing, the path is proven."""
    torch.save({"model": recipe_state("vits")}, tmp_path / "model_best_bp2.pth")
    options = ["--teacher.checkpoint", str(tmp_path / "model_best_bp2.pth"), "--teacher.max_disp", "64"]
    options += ["--teacher.iterations", "1", "--teacher.scale", "0.25", "--limit", "2", "--stride", "20"]
    source = shared_data / "video" / "kitti_odom_seq_1"
    command = ["label", str(source), "--teacher", "foundation_stereo", *options, "--out", str(tmp_path / "set")]
    assert main(command) == 0
    labels = LabelSet.open(tmp_path / "set", untrusted=True)
    assert len(labels) == 2
    frame = labels.read(1)
    assert frame.disparity.shape == frame.left.shape[:2] == (370, 1226)
    assert np.isfinite(frame.disparity).mean() > 0.5

"""More outputs, and any number of pairs: the disparity stays the same, the rest means what it says."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from deploy.onnx_stereo import read_stereo_graph
from stereo.cli import main
from stereo.errors import UserError
from student.checkpoint import load_student
from student.exported import ExportedStudent, confidence

PLANES = 8


@pytest.fixture(scope="module")
def graph(student_file, tmp_path_factory):
    """A graph with everything that can be asked for."""
    out = tmp_path_factory.mktemp("exported") / "all.onnx"
    words = ["export", str(student_file), "--size", "64x96", "--out", str(out), "--open_batch", "true"]
    assert main([*words, "--outputs", "[confidence,disparity_quarter]", "--apc_form", "conv2d"]) == 0
    return out


@pytest.mark.parametrize("pairs", [1, 3])
def test_any_number_of_pairs_and_more_outputs(graph, student_file, pairs):
    student = load_student(student_file)
    left, right = 255 * torch.rand(2, pairs, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["disparity", "confidence", "disparity_quarter"]
    disparity, trust, quarter = session.run(None, {"left": left.numpy(), "right": right.numpy()})
    with torch.no_grad():
        found = student.predict_sequence(left, right)
        wanted = student(left, right)
    assert np.abs(disparity - wanted.numpy()).max() < 1e-3
    assert np.abs(quarter - found.quarter.relu().numpy()).max() < 1e-3
    assert disparity.std() > 0.1
    assert trust.shape == disparity.shape
    assert trust.min() >= 0
    assert trust.max() <= 1 + 1e-5
    assert trust.std() > 0.01


def test_the_graph_is_read_like_any_other(graph):
    told = read_stereo_graph(graph)
    assert told.extra_outputs == ("confidence", "disparity_quarter")
    assert told.size == (64, 96)
    assert onnx.load(graph).graph.input[0].type.tensor_type.shape.dim[0].dim_param


def peak(position, other=None):
    """Scores (1, PLANES, 2, 2) that all but decide for a plane, or for two alike."""
    scores = torch.full((1, PLANES, 2, 2), -20.0)
    scores[:, [position] if other is None else [position, other]] = 20.0
    return scores


@pytest.mark.parametrize(
    ("scores", "quarter", "wanted"),
    [
        (peak(3), 6.0, 1.0),  # plane 3 of 1/8 is 6 px of 1/4
        (peak(3), 8.0, 1.0),  # one plane beside
        (peak(3), 9.0, 0.5),  # one and a half
        (peak(3), 14.0, 0.0),  # the refinement went elsewhere
        (peak(1, 6), 2.0, 0.5),  # two alike
        (torch.zeros(1, PLANES, 2, 2), 6.0, 3 / PLANES),  # undecided: three planes of eight
    ],
)
def test_confidence_is_the_share_of_planes_near_the_disparity(scores, quarter, wanted):
    found = confidence(scores, torch.full((1, 1, 4, 4), quarter))
    assert found.shape == (1, 1, 16, 16)
    assert found.numpy() == pytest.approx(wanted, abs=1e-5)


def test_unknown_output_is_refused(student_file):
    with pytest.raises(UserError, match=r"no output 'depth' \(there are confidence, disparity_quarter\)"):
        ExportedStudent(load_student(student_file), ["depth"])

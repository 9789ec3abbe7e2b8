import json
import re
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from stereo.errors import UserError
from stereo.frame_writer import Extras
from stereo.label_set import LabelledFrame, LabelSet
from stereo.label_set_view import write_view
from stereo.label_set_writer import LabelSetWriter, RankWriter, disparity_scale_for
from stereo.pair import Rig
from stereo.pictures import write_png

IDENTITY = {"source": {"kind": "test", "path": "clip"}, "teacher": {"name": "fake", "max_disp": 64}}


def frame(index, *, height=6, width=8):
    random = np.random.default_rng(index)
    disparity = np.round(random.uniform(1, 60, (height, width)) * 256).astype(np.float32) / 256
    disparity[0, 0] = np.nan
    confidence = random.integers(0, 256, (height, width)).astype(np.float32) / np.float32(255)
    left, right = random.integers(0, 255, (2, height, width, 3), np.uint8)
    return LabelledFrame(f"{index:06d}", left, right, disparity, confidence)


def make(path, count=3, **options):
    writer = LabelSetWriter(path, identity=IDENTITY, max_disp=64, **options)
    for index in range(count):
        if index not in writer.done:
            writer.add(index, frame(index))
    writer.finish()
    return path


def test_what_is_written_is_read(tmp_path):
    rig = Rig(500.0, 0.1, cx=3.0)
    labels = LabelSet.open(make(tmp_path / "set", rig=rig))
    assert labels.finished
    assert labels.names == ["000000", "000001", "000002"]
    assert labels.sizes == [(6, 8)] * 3
    assert labels.rig == rig
    for index, found in enumerate(labels):
        truth = frame(index)
        for part in ("left", "right", "disparity", "confidence"):
            np.testing.assert_array_equal(getattr(found, part), getattr(truth, part), err_msg=part)
    labels.verify()


def test_the_documents_own_reader_reads_it(tmp_path):
    """docs/labels.md has a reader of its own; it knows journals of single processes, verdicts and views."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "labels.md").read_text(encoding="utf-8")
    namespace = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], namespace)
    writer = LabelSetWriter(tmp_path / "set", identity=IDENTITY, max_disp=300)
    writer.skip(0, "000000", reason="image unreadable", detail="image unreadable")
    writer.commit(
        writer.store(1, frame(1), Extras(verdict="too few trusted pixels", terms={"teacher": frame(1).confidence}))
    )
    writer.add(2, frame(2))
    with closing(RankWriter(tmp_path / "set", 0, identity=writer.identity)) as rank:
        rank.add(0, frame(0))
    found = {untrusted: list(namespace["read_label_set"](tmp_path / "set", untrusted)) for untrusted in (False, True)}
    assert [each[0] for each in found[False]] == ["000000", "000002"]
    assert [each[0] for each in found[True]] == ["000000", "000001", "000002"]
    for name, left, right, disparity, confidence in found[True]:
        truth = frame(int(name))
        np.testing.assert_array_equal(left[:, :, ::-1], truth.left)
        np.testing.assert_array_equal(right[:, :, ::-1], truth.right)
        np.testing.assert_allclose(disparity, truth.disparity, atol=0.5 / 128, err_msg="scale 128 beyond 255 px")
        np.testing.assert_allclose(confidence, truth.confidence, atol=1e-6)
    writer.close()
    LabelSetWriter(tmp_path / "set", identity=IDENTITY, max_disp=300).finish()
    write_view(LabelSet.open(tmp_path / "set"), ["000002"], tmp_path / "view", reason="test")
    assert [each[0] for each in namespace["read_label_set"](tmp_path / "view")] == ["000002"]


def test_gray_frames_stay_one_channel_on_disk_and_come_back_as_rgb(tmp_path):
    gray = frame(0)
    gray.left[:] = gray.left[:, :, :1]
    writer = LabelSetWriter(tmp_path / "set", identity=IDENTITY, max_disp=64)
    writer.add(0, gray)
    writer.finish()
    np.testing.assert_array_equal(LabelSet.open(tmp_path / "set").read(0).left, gray.left)


def test_manifest_counts(tmp_path):
    writer = LabelSetWriter(tmp_path / "set", identity=IDENTITY, max_disp=64, keep_threshold=0.5)
    half = frame(0, height=2, width=2)
    half.disparity[:] = [[np.nan, 1], [1, 1]]
    half.confidence[:] = [[1, 1], [0.5, 0.49]]
    writer.add(0, half)
    writer.skip(1, "000001", reason="truncated image", detail="000001.png: truncated")
    manifest = json.loads((writer.finish() / "manifest.json").read_text())
    assert manifest["frames"] == 1
    assert manifest["valid_pct"] == 75
    assert manifest["kept_pct"] == 50
    assert manifest["skipped"] == {"truncated image": {"count": 1, "frames": ["000001"]}}


def test_scale_follows_the_largest_disparity():
    assert disparity_scale_for(192) == 256
    assert disparity_scale_for(256) == 128
    with pytest.raises(UserError, match="511"):
        disparity_scale_for(600)


@pytest.mark.parametrize("name", ["disparity/000001.png", "left/000000.png", "confidence/000002.png"])
def test_altered_file_of_equal_size_is_found_when_read(tmp_path, name):
    make(tmp_path / "set")
    path = tmp_path / "set" / name
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    labels = LabelSet.open(tmp_path / "set")
    with pytest.raises(UserError, match=f"{name}.*differs from its checksum"):
        list(labels)
    with pytest.raises(UserError, match=name):
        labels.verify()


def test_missing_shortened_and_journal_alterations_are_found_when_opened(tmp_path):
    for number, (name, change) in enumerate([
        ("right/000001.png", lambda path: path.unlink()),
        ("right/000001.png", lambda path: path.write_bytes(path.read_bytes()[:-1])),
        ("journal.jsonl", lambda path: path.write_text(path.read_text().replace("valid_pct", "valid_xxx"))),
        ("manifest.json", lambda path: path.write_text(path.read_text()[:100])),
        ("manifest.json", lambda path: path.unlink()),
    ]):  # fmt: skip
        folder = make(tmp_path / f"set{number}")
        change(folder / name)
        with pytest.raises(UserError, match=r"altered|manifest"):
            LabelSet.open(folder)


def test_resume_keeps_finished_frames_and_cuts_a_torn_line(tmp_path):
    whole = make(tmp_path / "whole")
    path = tmp_path / "set"
    writer = LabelSetWriter(path, identity=IDENTITY, max_disp=64)
    writer.add(0, frame(0))
    writer.store(1, frame(1))  # files without a journal line: in flight when killed
    writer._journal.close()
    (path / "disparity" / ".000002.xyz.part.png").write_bytes(b"torn")
    with (path / "journal.jsonl").open("ab") as file:
        file.write(b'{"frame": 1, "na')
    assert len(LabelSet.open(path)) == 1
    resumed = LabelSetWriter(path, identity=IDENTITY, max_disp=64)
    assert 0 in resumed.done
    assert 1 not in resumed.done
    resumed.add(1, frame(1))
    resumed.add(2, frame(2))
    resumed.finish()
    files = sorted(file.relative_to(path) for file in path.rglob("*") if file.is_file())
    assert files == sorted(file.relative_to(whole) for file in whole.rglob("*") if file.is_file())
    for file in files:
        if file.name != "manifest.json":
            assert (path / file).read_bytes() == (whole / file).read_bytes(), file


def test_resume_with_another_teacher_names_the_field(tmp_path):
    make(tmp_path / "set")
    other = {**IDENTITY, "teacher": {"name": "fake", "max_disp": 128}}
    with pytest.raises(UserError, match=r"teacher\.max_disp = 64, this run has 128"):
        LabelSetWriter(tmp_path / "set", identity=other, max_disp=128)


def test_a_skipped_frame_is_tried_again_and_leaves_the_count(tmp_path):
    writer = LabelSetWriter(tmp_path / "set", identity=IDENTITY, max_disp=64)
    writer.skip(0, "000000", reason="unreadable", detail="x")
    assert 0 not in writer.done
    assert writer.totals()["skipped"] == {"unreadable": {"count": 1, "frames": ["000000"]}}
    writer.add(0, frame(0))
    assert writer.totals()["skipped"] == {}
    writer.finish()


def test_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(UserError, match="not a label set"):
        LabelSetWriter(tmp_path, identity=IDENTITY, max_disp=64)
    assert [file.name for file in tmp_path.iterdir()] == ["precious.txt"]


def test_two_writers_at_once_are_refused(tmp_path):
    writer = LabelSetWriter(tmp_path / "set", identity=IDENTITY, max_disp=64)
    with pytest.raises(UserError, match="another process"):
        LabelSetWriter(tmp_path / "set", identity=IDENTITY, max_disp=64)
    writer.add(0, frame(0))
    writer.finish()


def test_source_files_are_linked_not_copied(tmp_path):
    first = frame(0)
    for side in ("left", "right"):
        write_png(tmp_path / f"{side}.png", getattr(first, side))
    writer = LabelSetWriter(tmp_path / "set", identity=IDENTITY, max_disp=64)
    for _ in range(2):  # the second time as after a kill between link and journal line
        stored = writer.store(0, first, Extras(files=(tmp_path / "left.png", tmp_path / "right.png")))
    writer.commit(stored)
    writer.finish()
    assert (tmp_path / "set/left/000000.png").samefile(tmp_path / "left.png")
    labels = LabelSet.open(tmp_path / "set")
    assert labels.manifest["file_forms"] == {"file": 2, "hardlink": 2}
    np.testing.assert_array_equal(labels.read(0).right, first.right)


def test_a_view_shows_some_frames_of_a_set_without_copies(tmp_path):
    labels = LabelSet.open(make(tmp_path / "set", count=6, rig=Rig(500.0, 0.1)))
    few = LabelSet.open(write_view(labels, ["000004", "000001", "000002"], tmp_path / "views/few", reason="test"))
    assert [path.name for path in (tmp_path / "views/few").iterdir()] == ["manifest.json"]
    assert few.names == ["000001", "000002", "000004"]
    assert few.numbers == [1, 2, 4]
    assert few.rig == labels.rig
    assert few.sizes == [(6, 8)] * 3
    np.testing.assert_array_equal(few.read(2).left, frame(4).left)
    few.verify()
    fewer = LabelSet.open(write_view(few, ["000004"], tmp_path / "fewer", reason="test"))
    assert fewer.names == ["000004"]
    assert fewer.root.resolve() == (tmp_path / "set").resolve()
    assert len({each.fingerprint() for each in (labels, few, fewer)}) == 3
    (tmp_path / "views").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="no such"):
        LabelSet.open((tmp_path / "elsewhere").rename(tmp_path / "set/elsewhere") / "few")


def test_views_are_refused_when_the_set_has_changed_or_cannot_be_shown(tmp_path):
    labels = LabelSet.open(make(tmp_path / "set"))
    view = write_view(labels, ["000001"], tmp_path / "view", reason="test")
    with pytest.raises(UserError, match="no frame 'xyz'"):
        write_view(labels, ["000001", "xyz"], tmp_path / "other", reason="test")
    with pytest.raises(UserError, match="at least one"):
        write_view(labels, [], tmp_path / "other", reason="test")
    with pytest.raises(UserError, match="not a view"):
        write_view(labels, ["000001"], tmp_path / "set", reason="test")
    with pytest.raises(UserError, match="something else than a label set"):
        LabelSetWriter(view, identity=IDENTITY, max_disp=64)
    make(tmp_path / "set", count=4)
    with pytest.raises(UserError, match="has changed since"):
        LabelSet.open(view)
    LabelSetWriter(tmp_path / "set", identity=IDENTITY, max_disp=64).close()
    with pytest.raises(UserError, match="not finished"):
        write_view(LabelSet.open(tmp_path / "set"), ["000001"], tmp_path / "other", reason="test")


def test_a_set_that_several_processes_were_writing_opens_and_resumes(tmp_path):
    whole = make(tmp_path / "whole", count=6)
    path = tmp_path / "set"
    owner = LabelSetWriter(path, identity=IDENTITY, max_disp=64)
    writers = [RankWriter(path, rank, identity=owner.identity) for rank in (0, 1)]
    for index in (3, 0, 4):
        writers[index % 2].add(index, frame(index))
    with pytest.raises(UserError, match="another process"):
        RankWriter(path, 1, identity=owner.identity)
    with pytest.raises(UserError, match="another process"):
        LabelSetWriter(path, identity=IDENTITY, max_disp=64)
    with pytest.raises(UserError, match=r"teacher\.name = 'fake', this run has 'other'"):
        RankWriter(path, 2, identity={**owner.identity, "teacher": {"name": "other", "max_disp": 64}})
    assert LabelSet.open(path).names == ["000000", "000003", "000004"]
    owner.close()
    with pytest.raises(UserError, match="another process"):
        LabelSetWriter(path, identity=IDENTITY, max_disp=64)  # an orphan is still writing
    for writer in writers:
        writer.close()
    make(path, count=6)
    assert (path / "journal.jsonl").read_bytes() == (whole / "journal.jsonl").read_bytes()
    assert sorted(file.name for file in path.glob("journal*")) == ["journal.jsonl"]


def test_a_finished_set_with_an_altered_journal_does_not_resume(tmp_path):
    journal = make(tmp_path / "set") / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"kept_pct": ', '"kept_pct": 1'))
    with pytest.raises(UserError, match="differs from the checksum"):
        LabelSetWriter(tmp_path / "set", identity=IDENTITY, max_disp=64)

"""The verb `label`: good and bad sources, and what is kept when it is killed, interrupted or out of space."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from stereo.errors import UserError
from stereo.label_set import LabelSet
from stereo.pictures import write_png
from teacher.config import LabelConfig, TeacherOptions
from teacher.labelling import Task, label, label_here
from teacher.labelling_steps import FrameLabel, Prepared, Steps
from teacher.run_options import RunOptions

HEIGHT, WIDTH, SHIFT = 72, 128, 6
TEACHER = TeacherOptions(max_disp=16)
COMMAND = [sys.executable, "-m", "stereo.cli", "label"]
# Long enough for a machine that does ten other things.
PATIENCE_S = 900
# The same command, but its teacher stops at its 21st frame until it is interrupted.
STUCK = """
import sys
import time
from stereo.cli import main
from teacher.semi_global import SemiGlobalTeacher
predict, seen = SemiGlobalTeacher.predict, []

def stuck(self, pair):
    seen.append(pair.name)
    if len(seen) > 20:
        time.sleep(3600)
    return predict(self, pair)

SemiGlobalTeacher.predict = stuck
sys.exit(main(sys.argv[1:]))
"""


def views(number):
    """A textured wall at a known disparity, another texture for each number."""
    noise = np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH + SHIFT, 3), np.uint8)
    wall = cv2.GaussianBlur(noise, (0, 0), 1.5)
    wall = cv2.normalize(wall, None, 0, 255, cv2.NORM_MINMAX)
    return np.ascontiguousarray(wall[:, :WIDTH]), np.ascontiguousarray(wall[:, SHIFT:])


@pytest.fixture
def clip(tmp_path):
    """A source of 12 frames in two folders."""
    return make_clip(tmp_path / "clip", 12)


def make_clip(folder, count, end=None):
    """Frames 0 to `count`, or `count` to `end`."""
    for number in range(count) if end is None else range(count, end):
        for side, view in zip(("left", "right"), views(number), strict=True):
            write_png(folder / side / f"{number:06d}.png", view)
    return folder


def arguments(clip, out, *extra):
    return [*COMMAND, str(clip), "--teacher", "sgbm", "--teacher.max_disp", "16", "--out", str(out), *extra]


def contents(folder):
    """Relative path → bytes of a label set, without what tells time and place."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
    manifest = json.loads(found.pop("manifest.json"))
    for key in ("made_at", "commit", "config", "timing"):
        del manifest[key]
    return found | {"manifest": manifest}


def test_a_clip_becomes_a_label_set(clip, tmp_path):
    assert label(LabelConfig(str(clip), out=str(tmp_path / "set"), teacher=TEACHER)) == tmp_path / "set"
    labels = LabelSet.open(tmp_path / "set")
    labels.verify()
    assert len(labels) == 12
    for number, frame in enumerate(labels):
        np.testing.assert_array_equal(frame.left, views(number)[0])
        sure = frame.confidence >= 0.5
        assert sure.mean() > 0.8
        error = np.abs(frame.disparity[sure] - SHIFT)
        assert error.mean() < 0.1
        assert (error > 1).mean() < 0.001
    manifest = labels.manifest
    assert manifest["finished"]
    assert manifest["teacher"]["name"] == "sgbm"
    assert manifest["source"]["kind"] == "two_folders"
    assert manifest["frames"] == manifest["source_frames"] == 12
    assert manifest["kept_pct"] > 80
    assert manifest["file_forms"]["hardlink"] == 24
    assert len(list((tmp_path / "set" / "pictures").glob("*.png"))) == 4


def test_limit_and_stride_choose_and_can_be_widened(clip, tmp_path):
    label(LabelConfig(str(clip), out=str(tmp_path / "set"), teacher=TEACHER, stride=5, limit=2))
    assert LabelSet.open(tmp_path / "set").names == ["000000", "000005"]
    label(LabelConfig(str(clip), out=str(tmp_path / "set"), teacher=TEACHER, stride=5))
    assert LabelSet.open(tmp_path / "set").names == ["000000", "000005", "000010"]
    with pytest.raises(UserError, match="--stride"):
        label(LabelConfig(str(clip), out=str(tmp_path / "set"), teacher=TEACHER, stride=0))


def test_without_links_the_set_is_on_its_own(clip, tmp_path):
    label(LabelConfig(str(clip), out=str(tmp_path / "set"), teacher=TEACHER, limit=2, links=False))
    shutil.rmtree(clip)
    labels = LabelSet.open(tmp_path / "set")
    assert labels.manifest["file_forms"] == {"file": 8}
    np.testing.assert_array_equal(labels.read(1).right, views(1)[1])


def test_labelling_again_changes_nothing(clip, tmp_path):
    config = LabelConfig(str(clip), out=str(tmp_path / "set"), teacher=TEACHER)
    label(config)
    before = contents(tmp_path / "set")
    label(config)
    assert contents(tmp_path / "set") == before


def test_bad_frames_are_counted_by_reason_and_the_rest_is_labelled(clip, tmp_path):
    (clip / "right/000002.png").unlink()
    torn = clip / "left/000003.png"
    torn.write_bytes(torn.read_bytes()[:-100])
    write_png(clip / "right/000005.png", views(5)[1][:-2])
    write_png(clip / "left/000006.png", cv2.cvtColor(views(6)[0], cv2.COLOR_RGB2GRAY))
    cv2.imwrite(str(clip / "left/000007.png"), views(7)[0][:, :, ::-1].astype(np.uint16) * 257)
    label(LabelConfig(str(clip), out=str(tmp_path / "set"), teacher=TEACHER))
    labels = LabelSet.open(tmp_path / "set")
    assert labels.manifest["skipped"] == {
        "image missing": {"count": 1, "frames": ["000002"]},
        "image unreadable": {"count": 1, "frames": ["000003"]},
        "views differ in size": {"count": 1, "frames": ["000005"]},
    }
    assert labels.names == [f"{number:06d}" for number in (0, 1, 4, 6, 7, 8, 9, 10, 11)]
    frames = dict(zip(labels.names, labels, strict=True))
    np.testing.assert_array_equal(frames["000007"].left, views(7)[0], err_msg="16 bits become the same 8")
    assert (frames["000006"].left == frames["000006"].left[:, :, :1]).all()

    # The user repairs one of them and starts again: only that one is added.
    write_png(torn, views(3)[0])
    label(LabelConfig(str(clip), out=str(tmp_path / "set"), teacher=TEACHER))
    labels = LabelSet.open(tmp_path / "set")
    assert "000003" in labels.names
    assert "image unreadable" not in labels.manifest["skipped"]


def test_a_source_without_one_good_frame_is_an_error(clip, tmp_path):
    for path in (clip / "left").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"not one frame.*000000\.png.*empty"):
        label(LabelConfig(str(clip), out=str(tmp_path / "set"), teacher=TEACHER))


def test_resume_looks_at_the_last_frames_and_verify_at_all(clip, tmp_path, caplog):
    config = LabelConfig(str(clip), out=str(tmp_path / "set"), teacher=TEACHER)
    label(config)
    whole = contents(tmp_path / "set")
    first, last = (tmp_path / "set/disparity" / f"{number:06d}.png" for number in (0, 11))
    last.unlink()
    label(config)
    assert contents(tmp_path / "set") == whole
    assert "000011.png" in caplog.text
    for number in range(12, 30):
        for side, view in zip(("left", "right"), views(number), strict=True):
            write_png(clip / side / f"{number:06d}.png", view)
    label(config)
    whole = contents(tmp_path / "set")
    data = bytearray(first.read_bytes())
    data[-20] ^= 1
    first.write_bytes(data)
    label(config)
    assert contents(tmp_path / "set") != whole, "far from the last frames nothing is looked for"
    label(config, RunOptions(verify=True))
    assert contents(tmp_path / "set") == whole


def test_a_verdict_drops_and_terms_of_the_steps_reach_the_set(clip, tmp_path):
    class Choosy(Steps):
        def prepare(self, frame):
            return Prepared(frame, "near duplicate" if frame.index % 3 else None)

        def weigh(self, pair, match):
            found = super().weigh(pair, match)
            doubt = "too few trusted pixels" if pair.name == "000003" else None
            return FrameLabel(found.disparity, found.confidence, {"texture": found.confidence}, doubt)

    task = Task.open(LabelConfig(str(clip), out=str(tmp_path / "set"), teacher=TEACHER))
    task.steps = Choosy(task.teacher)
    labels = LabelSet.open(label_here(task))
    assert labels.names == ["000000", "000006", "000009"]
    assert LabelSet.open(tmp_path / "set", untrusted=True).names == ["000000", "000003", "000006", "000009"]
    assert labels.manifest["frames"] == 4
    assert labels.manifest["untrusted"] == {"too few trusted pixels": {"count": 1, "frames": ["000003"]}}
    assert labels.manifest["dropped"]["near duplicate"]["count"] == 8
    assert [line["frame"] for line in labels.all_lines()] == list(range(12))
    term, confidence = (tmp_path / "set" / path for path in (
        "confidence_terms/000006/texture.png", "confidence/000006.png"
    ))  # fmt: skip
    assert term.read_bytes() == confidence.read_bytes()
    labels.verify()
    term.write_bytes(b"")
    with pytest.raises(UserError, match="confidence_terms"):
        LabelSet.open(tmp_path / "set")


def test_the_teacher_does_not_wait_for_reading_confidence_or_files(clip, tmp_path):
    """Only its own passes keep the thread that it works in."""
    threads = {"prepare": set(), "match": set(), "weigh": set()}

    class Watching(Steps):
        def prepare(self, frame):
            threads["prepare"].add(threading.current_thread())
            return super().prepare(frame)

        def match(self, pair):
            threads["match"].add(threading.current_thread())
            return super().match(pair)

        def weigh(self, pair, match):
            threads["weigh"].add(threading.current_thread())
            return super().weigh(pair, match)

    task = Task.open(LabelConfig(str(clip), out=str(tmp_path / "set"), teacher=TEACHER))
    task.steps = Watching(task.teacher)
    label_here(task)
    assert threads["match"] == {threading.current_thread()}
    assert not threads["match"] & (threads["weigh"] | threads["prepare"])
    assert not threads["weigh"] & threads["prepare"]


def test_what_was_dropped_is_not_looked_at_again(clip, tmp_path):
    seen = []

    class Watching(Steps):
        def prepare(self, frame):
            seen.append(frame.index)
            return Prepared(frame, "blurred" if frame.index == 5 else None)

    for limit in (8, 12):
        task = Task.open(LabelConfig(str(clip), out=str(tmp_path / "set"), teacher=TEACHER, limit=limit))
        task.steps = Watching(task.teacher)
        label_here(task)
    assert seen == list(range(12))


def test_another_teacher_does_not_resume(clip, tmp_path):
    label(LabelConfig(str(clip), out=str(tmp_path / "set"), teacher=TEACHER, limit=1))
    with pytest.raises(UserError, match=r"teacher\.max_disp = 16, this run has 32"):
        label(LabelConfig(str(clip), out=str(tmp_path / "set"), teacher=TeacherOptions(max_disp=32)))


def test_video_with_a_broken_frame(tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"png "), 10, (2 * WIDTH, HEIGHT))
    for number in range(8):
        writer.write(np.concatenate(views(number), axis=1)[:, :, ::-1])
    writer.release()
    data = bytearray(path.read_bytes())
    starts = [position for position in range(len(data)) if data.startswith(b"\x89PNG", position)]
    data[starts[4] : starts[4] + 60] = bytes(60)
    path.write_bytes(data)
    label(LabelConfig(str(path), out=str(tmp_path / "set"), teacher=TEACHER))
    labels = LabelSet.open(tmp_path / "set")
    # FFmpeg's AVI reader may lose the frame behind a broken header too; then that one is not even in the video.
    skipped = labels.manifest["skipped"]
    assert "000004" in skipped["frame cannot be decoded"]["frames"]
    lost = sorted(name for group in skipped.values() for name in group["frames"])
    assert lost in (["000004"], ["000004", "000005"])
    assert len(labels) == 8 - len(lost)
    assert str(path) in labels.manifest["made_from"]
    for name, frame in zip(labels.names, labels, strict=True):
        np.testing.assert_array_equal(frame.left, views(int(name))[0])


def journal_lines(out):
    journal = out / "journal.jsonl"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def journal_frames(out):
    """Frames with a complete line. Fewer than lines: a skipped frame gets one each time it is tried, until a merge."""
    journal = out / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True) if journal.exists() else []
    return {json.loads(line)["frame"] for line in lines if line.endswith(b"\n")}


def wait_for_lines(process, out, count, seconds=PATIENCE_S):
    """Wait until the journal has that many lines or the process is over."""
    end = time.monotonic() + seconds
    while process.poll() is None and journal_lines(out) < count:
        assert time.monotonic() < end, "labelling makes no progress"
        time.sleep(0.002)


@pytest.mark.parametrize("times", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_with_the_same_set(tmp_path, times):
    count = 8 * times
    clip = make_clip(tmp_path / "clip", count)
    (clip / "left/000011.png").unlink()
    out, choice, kills, number = tmp_path / "set", random.Random(5), 0, 0
    before: set[int] = set()
    while kills < times:
        process = subprocess.Popen(arguments(clip, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if number % 4:
            wait_for_lines(process, out, journal_lines(out) + choice.randint(1, 6))
            time.sleep(choice.uniform(0, 0.03))
        else:  # any moment, of the start too
            time.sleep(choice.uniform(0, 0.6))
        process.kill()
        process.communicate()
        assert process.returncode in (0, -signal.SIGKILL)
        kills += process.returncode == -signal.SIGKILL
        now = journal_frames(out)
        assert now >= before, "a finished frame was lost"
        before = now
        if before:
            LabelSet.open(out).verify()
        if process.returncode == 0:  # it was faster than this test, so there must be more to do
            make_clip(clip, count, count + 8)
            count += 8
        number += 1
    subprocess.run(arguments(clip, out), check=True, capture_output=True)
    subprocess.run(arguments(clip, tmp_path / "whole"), check=True, capture_output=True)
    if count > 8 * times:  # the previews are spread over the frames there are
        for each in (out, tmp_path / "whole"):
            shutil.rmtree(each / "pictures")
    assert contents(out) == contents(tmp_path / "whole")


def test_ctrl_c_keeps_what_is_finished_and_exits_with_130(tmp_path):
    clip, out = make_clip(tmp_path / "clip", 40), tmp_path / "set"
    stuck = [sys.executable, "-c", STUCK, *arguments(clip, out)[len(COMMAND) - 1 :]]
    process = subprocess.Popen(stuck, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_lines(process, out, 4)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    labels = LabelSet.open(out)
    labels.verify()
    assert 4 <= len(labels) <= 20
    assert not labels.finished
    assert not list(out.glob("*/.*")), "no torn file is left"
    done = subprocess.run(arguments(clip, out), check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == str(out)
    assert f"{len(labels)} of 40 frames are done" in done.stderr
    assert len(LabelSet.open(out)) == 40


def test_frames_whose_journal_entry_is_interrupted_are_kept(clip, tmp_path, monkeypatch):
    """Ctrl-C while the disk syncs: the files are there, so their lines are written on the way out."""
    sync, calls = os.fsync, []

    def interrupted(handle):
        if Path(f"/proc/self/fd/{handle}").readlink().name == "journal.jsonl":
            calls.append(handle)
            if len(calls) == 2:
                raise KeyboardInterrupt
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            label(LabelConfig(str(clip), out=str(tmp_path / "set"), teacher=TEACHER))
    labels = LabelSet.open(tmp_path / "set")
    assert len(labels) >= 5, "those of the first entry and of the second"
    assert labels.names == [f"{number:06d}" for number in range(len(labels))]
    label(LabelConfig(str(clip), out=str(tmp_path / "set"), teacher=TEACHER))
    assert len(LabelSet.open(tmp_path / "set")) == 12


def test_a_full_disk_ends_in_one_line_and_goes_on_when_there_is_space(tmp_path):
    """On a real file system of 600 kB, in a mount namespace of its own."""
    clip, disk = make_clip(tmp_path / "clip", 20), tmp_path / "disk"
    disk.mkdir()
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
    probe = [*inside, f"mount -t tmpfs -o size=600k tmpfs {disk}"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("this machine lets no test mount a small file system (unshare, mount)")
    command = " ".join(arguments(clip, disk / "set", "--links", "false"))
    script = f"""
        mount -t tmpfs -o size=600k tmpfs {disk}
        {command} 2> {tmp_path}/first.err && exit 90 || echo $? > {tmp_path}/first.rc
        cp -r {disk}/set {tmp_path}/full
        mount -o remount,size=50m {disk}
        {command} 2> {tmp_path}/second.err
        cp -r {disk}/set {tmp_path}/whole
    """
    subprocess.run([*inside, script], check=True, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert (tmp_path / "first.rc").read_text().strip() == "2"
    message = (tmp_path / "first.err").read_text().splitlines()[-1]
    assert "no space left on the disk" in message
    assert "Traceback" not in (tmp_path / "first.err").read_text()
    full = LabelSet.open(tmp_path / "full")
    full.verify()
    assert 0 < len(full) < 20
    assert f"{len(full)} of 20 frames are done" in (tmp_path / "second.err").read_text()
    whole = LabelSet.open(tmp_path / "whole")
    whole.verify()
    assert len(whole) == 20

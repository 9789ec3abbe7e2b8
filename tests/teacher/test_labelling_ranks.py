"""Labelling in several processes: the set is that of one process, whoever is killed, and nobody else may write it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from stereo.errors import UserError
from stereo.label_set import LabelSet
from stereo.pictures import write_png
from stereo.selection_options import SelectionOptions
from teacher.config import LabelConfig, TeacherOptions
from teacher.labelling import label, launched_processes, processes
from teacher.labelling_loop import Share, prepared_frames
from teacher.run_options import RunOptions

HEIGHT, WIDTH, SHIFT = 40, 64, 6
BLOCK_FRAMES = 64
# Long enough for a machine that does ten other things.
PATIENCE_S = 900
# What the front door does, with the number of processes as the third argument; 0 leaves it to the launcher. With a
# fourth, each process takes its time after so many frames, so that whoever waits for them is never too late.
PROGRAM = """
import sys
import time
from stereo.errors import UserError
from teacher.config import LabelConfig, TeacherOptions
from stereo.selection_options import SelectionOptions
from teacher.labelling import label
from teacher.run_options import RunOptions
from teacher.semi_global import SemiGlobalTeacher
source, out, devices, *slow_after = sys.argv[1:]
predict, seen = SemiGlobalTeacher.predict, []

def slowed(self, pair):
    seen.append(pair.name)
    if slow_after and len(seen) > int(slow_after[0]):
        time.sleep(0.1)
    return predict(self, pair)

SemiGlobalTeacher.predict = slowed
config = LabelConfig(
    source, out=out, teacher=TeacherOptions(max_disp=16), pictures=2, select=SelectionOptions(block=64)
)
try:
    made = label(config, RunOptions(devices=int(devices) or None))
except UserError as error:
    print("error:", error, file=sys.stderr)
    sys.exit(2)
if made is not None:
    print(made)
"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """More than four blocks of small frames, one of them without a right view."""
    folder = tmp_path_factory.mktemp("clip")
    for number in range(4 * BLOCK_FRAMES + 20):
        noise = np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH + SHIFT, 3), np.uint8)
        wall = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 0, 255, cv2.NORM_MINMAX)
        write_png(folder / "left" / f"{number:06d}.png", np.ascontiguousarray(wall[:, :WIDTH]))
        if number != 70:
            write_png(folder / "right" / f"{number:06d}.png", np.ascontiguousarray(wall[:, SHIFT:]))
    return folder


@pytest.fixture(scope="module")
def single(clip, tmp_path_factory):
    """The set that one process makes."""
    out = tmp_path_factory.mktemp("single") / "set"
    select = SelectionOptions(block=BLOCK_FRAMES)
    label(LabelConfig(str(clip), out=str(out), teacher=TeacherOptions(max_disp=16), pictures=2, select=select))
    return out


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "label_it.py"
    path.write_text(PROGRAM)
    return path


def environment():
    """Without what a launcher around the tests may have set."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "TORCHELASTIC_"))}
    return kept | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def start(program, clip):
    """(set, processes=2, launcher=(), slow_after=None) → the program, started; nothing of it outlives the test."""
    started = []

    def run(out, devices=2, launcher=(), slow_after=None):
        command = [sys.executable, *launcher, str(program), str(clip), str(out), str(devices)]
        command += [] if slow_after is None else [str(slow_after)]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def contents(folder):
    """Relative path → bytes of a label set, without what tells time and place."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    manifest = json.loads(found.pop("manifest.json"))
    for key in ("made_at", "commit", "config", "timing"):
        del manifest[key]
    return found | {"manifest": manifest}


def lines_of(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for(condition, process, seconds=PATIENCE_S):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "labelling makes no progress"
        time.sleep(0.002)


def children(process):
    """The processes that this one started, oldest first."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    return sorted(int(number) for number in found.stdout.split())


def test_every_frame_falls_to_one_process_whatever_their_number():
    indexes = range(0, 3000, 7)
    whole = [list(block) for block in Share(indexes, 64).blocks()]
    assert [index for block in whole for index in block] == list(indexes)
    for world in (2, 3, 50):
        shares = [[list(block) for block in Share(indexes, 64, rank, world).blocks()] for rank in range(world)]
        assert sorted(block for share in shares for block in share) == whole


def test_a_block_goes_on_after_a_kill_with_the_frame_that_was_kept_last():
    """What `prepare` may depend on is the same as without the kill: the last kept frame of the same block."""
    seen = []

    class Source:
        def read(self, index):
            return index

    class Steps:
        remembers = True

        def begin_block(self):
            seen.append("begin")

        def remember(self, frame):
            seen.append(("remember", frame))

        def prepare(self, frame):
            return frame

    class States(dict):
        """0-3 kept, 4 dropped, 6 skipped and later tried again, 7 kept."""

        def settled(self, index):
            return index in self or index == 4

    states = States.fromkeys((0, 1, 2, 3, 7))
    blocks = [range(0, 5), range(5, 9)]
    assert list(prepared_frames(Source(), Steps(), blocks, states)) == [5, 6, 8]
    assert seen == ["begin", "begin", ("remember", 7)]
    seen.clear()
    del states[3]
    assert next(iter(prepared_frames(Source(), Steps(), blocks, states))) == 3
    assert seen == ["begin", ("remember", 2)]


def test_the_launcher_says_how_many(monkeypatch):
    for key in list(os.environ):
        if key.startswith(("SLURM_", "TORCHELASTIC_")):
            monkeypatch.delenv(key)
    assert launched_processes() == (1, 1)
    assert processes(RunOptions(devices=3)) == (3, 1)
    with pytest.raises(UserError, match="--nodes"):
        processes(RunOptions(nodes=2))
    with pytest.raises(UserError, match="0 is below 1"):
        processes(RunOptions(devices=0))
    with monkeypatch.context() as patch:
        for key, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "8"), ("LOCAL_WORLD_SIZE", "4")):
            patch.setenv(key, value)
        assert processes(RunOptions()) == processes(RunOptions(devices=4, nodes=2)) == (4, 2)
        with pytest.raises(UserError, match="3, but the launcher started 4"):
            processes(RunOptions(devices=3))
    with monkeypatch.context() as patch:
        for key, value in (("SLURM_NTASKS", "6"), ("SLURM_NNODES", "3"), ("SLURM_JOB_NAME", "label")):
            patch.setenv(key, value)
        assert processes(RunOptions()) == (2, 3)
        patch.setenv("SLURM_JOB_NAME", "interactive")
        assert processes(RunOptions()) == (1, 1)


def test_labelling_counts_the_time_of_the_teacher(clip, tmp_path):
    manifest = label(LabelConfig(str(clip), out=str(tmp_path / "set"), teacher=TeacherOptions(max_disp=16), limit=5))
    timing = LabelSet.open(manifest).manifest["timing"]
    assert [each["frames"] for each in timing] == [5]
    assert 0 < timing[0]["teacher_s"] < timing[0]["wall_s"]
    idle_pct = 100 * (1 - timing[0]["teacher_s"] / timing[0]["wall_s"])
    assert timing[0]["teacher_idle_pct"] == pytest.approx(idle_pct, abs=10), "seconds are rounded to milliseconds"


@pytest.mark.slow
def test_two_processes_make_the_set_of_one(start, single, tmp_path):
    process = start(tmp_path / "set")
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, stderr
    assert stdout == f"{tmp_path / 'set'}\n"
    assert contents(tmp_path / "set") == contents(single)
    timing = LabelSet.open(tmp_path / "set").manifest["timing"]
    assert [(each["rank"], each["frames"]) for each in timing] == [
        (0, 2 * BLOCK_FRAMES + 20),
        (1, 2 * BLOCK_FRAMES - 1),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_resumes(start, single, tmp_path, victim):
    out = tmp_path / "set"
    process = start(out, slow_after=50)
    journals = [out / f"journal.{rank}.jsonl" for rank in (0, 1)]
    wait_for(lambda: lines_of(journals[victim]) >= 40, process)
    os.kill([process.pid, *children(process)][victim], signal.SIGKILL)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode != 0
    labels = LabelSet.open(out)
    labels.verify()
    assert 40 <= len(labels) < len(LabelSet.open(single))
    assert not labels.finished
    before = len(labels)
    resumed = start(out)
    stderr = resumed.communicate(timeout=PATIENCE_S)[1]
    assert resumed.returncode == 0, stderr
    assert contents(out) == contents(single)
    again = sum(each["frames"] for each in LabelSet.open(out).manifest["timing"])
    assert again == len(LabelSet.open(single)) - before, "what was finished is not done again"


@pytest.mark.slow
def test_torchrun_starts_it_and_one_process_may_end_it(start, single, tmp_path):
    out = tmp_path / "set"
    process = start(out, 0, ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"), 50)
    wait_for(lambda: lines_of(out / "journal.1.jsonl") >= 40, process)
    ranks = children(process)
    for rank in ranks:
        os.kill(rank, signal.SIGSTOP)
    # A second run, of one process, is refused while the first one is there.
    other = start(out, devices=1)
    stderr = other.communicate(timeout=PATIENCE_S)[1]
    assert other.returncode == 2
    assert "another process is writing this" in stderr
    os.kill(ranks[1], signal.SIGKILL)
    os.kill(ranks[0], signal.SIGCONT)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode != 0
    alone = start(out, devices=1)
    stderr = alone.communicate(timeout=PATIENCE_S)[1]
    assert alone.returncode == 0, stderr
    assert contents(out) == contents(single)


@pytest.mark.slow
def test_a_full_disk_stops_every_process_and_they_go_on_when_there_is_space(program, clip, single, tmp_path):
    """On a real file system of 1 MB, in a mount namespace of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
    mount = f"mount -t tmpfs -o size=1m tmpfs {disk}"
    if shutil.which("unshare") is None or subprocess.run([*inside, mount], capture_output=True).returncode:
        pytest.skip("this machine lets no test mount a small file system (unshare, mount)")
    command = f"{sys.executable} {program} {clip} {disk}/set 2"
    script = f"""
        {mount}
        {command} 2> {tmp_path}/first.err && exit 90
        cp -r {disk}/set {tmp_path}/full
        mount -o remount,size=50m {disk}
        {command} 2> {tmp_path}/second.err
        cp -r {disk}/set {tmp_path}/whole
    """
    subprocess.run([*inside, script], env=environment() | {"TMPDIR": str(tmp_path)}, timeout=PATIENCE_S)
    told = {path.name: path.read_text() for path in tmp_path.glob("*.err")}
    assert (tmp_path / "whole").exists(), told
    assert "no space left on the disk" in (tmp_path / "first.err").read_text()
    full = LabelSet.open(tmp_path / "full")
    full.verify()
    whole = LabelSet.open(tmp_path / "whole")
    whole.verify()
    assert 0 < len(full) < len(whole) == len(LabelSet.open(single))
    done = sum(each["frames"] for each in whole.manifest["timing"])
    assert done == len(whole) - len(full), "what was finished is not done again"

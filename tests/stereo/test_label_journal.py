"""Several journals become one: whichever way lines came, killed anywhere, once or again."""

import itertools
import json
import random

import pytest

from stereo.errors import UserError
from stereo.journal import Journal, encode_line, read_journal
from stereo.label_journal import (
    DROPPED,
    FINISHED,
    RECENT,
    SKIPPED,
    UNTRUSTED,
    FrameStates,
    JournalIndex,
    merge_journals,
    rank_journals,
)


def finished(frame, version=0, **more):
    return {
        "frame": frame,
        "name": f"{frame:06d}",
        "verdict": None,
        "files": {"left/x.png": {"bytes": version}},
        **more,
    }


def skipped(frame, reason="lost"):
    return {"frame": frame, "name": f"{frame:06d}", "skipped": reason, "detail": "x"}


def dropped(frame):
    return {"frame": frame, "name": f"{frame:06d}", "dropped": "blurred"}


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(encode_line, lines)))


def merged(folder):
    journal = Journal(folder / "journal.jsonl")
    merge_journals(journal)
    journal.close()
    assert rank_journals(folder) == []
    return (folder / "journal.jsonl").read_bytes()


def test_the_last_line_of_a_frame_counts(tmp_path):
    write(tmp_path / "journal.jsonl", finished(5), skipped(2), finished(0), skipped(5, "damaged"), dropped(7))
    write(tmp_path / "journal.1.jsonl", finished(2), finished(3, verdict="fog"), finished(5, version=1))
    index = JournalIndex([tmp_path / "journal.jsonl", tmp_path / "journal.1.jsonl"])
    assert index.frames.tolist() == [0, 2, 3, 5, 7]
    assert index.kinds.tolist() == [FINISHED, FINISHED, UNTRUSTED, FINISHED, DROPPED]
    assert [line["frame"] for line in index.lines([1, 3])] == [2, 5]
    assert next(index.lines([3])) == finished(5, version=1)
    states = FrameStates(index)
    assert [frame in states for frame in range(9)] == [True, False, True, True, False, True, False, False, False]
    assert states.settled(7)
    assert not states.settled(1)
    states[100_000] = SKIPPED
    assert not states.settled(100_000)
    assert not states.settled(200_000)


def test_a_merged_journal_depends_on_the_frames_alone(tmp_path):
    """The same lines shared out in every way, with doubles, some of them torn off, give the same bytes."""
    lines = [finished(frame) if frame % 3 else dropped(frame) for frame in range(30)]
    expected = b"".join(map(encode_line, lines))
    choice = random.Random(1)
    for number in range(20):
        folder = tmp_path / str(number)
        shares = [[], [], [], []]
        for line in lines:
            shares[choice.randrange(4)].append(line)
        shares[0] = [*choice.sample(shares[0], len(shares[0])), *choice.sample(lines, 3)]
        for rank, share in enumerate(shares):
            write(folder / (f"journal.{rank}.jsonl" if rank else "journal.jsonl"), *share)
        with (folder / "journal.2.jsonl").open("ab") as file:
            file.write(b'{"frame": 999, "na')
        assert merged(folder) == expected
        assert merged(folder) == expected, "again"


def test_a_journal_in_order_stays_untouched(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, finished(0), finished(4))
    before = path.stat()
    merged(tmp_path)
    write(tmp_path / "journal.3.jsonl")
    merged(tmp_path)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("stop", ["before the name", "after the name", "between two removals"])
def test_a_merge_that_is_killed_is_done_again(tmp_path, monkeypatch, stop):
    from pathlib import Path

    write(tmp_path / "journal.jsonl", finished(2))
    for rank, frame in ((0, 1), (1, 0)):
        write(tmp_path / f"journal.{rank}.jsonl", finished(frame), skipped(7 + rank))
    journal = Journal(tmp_path / "journal.jsonl")
    allowed = itertools.count()

    class Killed(BaseException):
        """What no clean-up catches."""

    def killed(*_, **__):
        raise Killed

    def unlink_once(path, **options):
        if path.name.startswith("journal.") and next(allowed):
            raise Killed
        return remove(path, **options)

    remove = Path.unlink
    with monkeypatch.context() as patch:
        if stop == "before the name":
            patch.setattr(Path, "replace", killed)
        elif stop == "after the name":
            patch.setattr("stereo.journal.sync_folder", killed)
        else:
            patch.setattr(Path, "unlink", unlink_once)
        with pytest.raises(Killed):
            merge_journals(journal)
    journal.close()
    found = JournalIndex([tmp_path / "journal.jsonl", *rank_journals(tmp_path)])
    assert found.frames.tolist() == [0, 1, 2, 7, 8], "nothing is lost on the way"
    expected = b"".join(map(encode_line, (finished(0), finished(1), finished(2), skipped(7), skipped(8))))
    assert merged(tmp_path) == expected


def test_a_journal_that_is_being_written_is_not_merged(tmp_path):
    other = Journal(tmp_path / "journal.1.jsonl")
    other.append(finished(0))
    journal = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(UserError, match="another process"):
        merge_journals(journal)
    other.append(finished(1))
    other.close()
    assert len(merge_journals(journal)) == 2


def test_the_lock_moves_to_the_file_that_takes_the_journals_place(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append({"frame": 1})
    journal.replace([b'{"frame": 7}\n'])
    with pytest.raises(UserError, match="another process"):
        Journal(path)
    journal.append({"frame": 8})
    journal.close()
    assert read_journal(path) == [{"frame": 7}, {"frame": 8}]
    Journal(path).close()
    assert [file.name for file in tmp_path.iterdir()] == ["journal.jsonl"]


def test_recent_lines_are_those_of_every_journal(tmp_path):
    write(tmp_path / "journal.jsonl", *map(finished, range(40)))
    write(tmp_path / "journal.0.jsonl", *map(finished, range(100, 103)), skipped(200))
    journal = Journal(tmp_path / "journal.jsonl")
    recent = merge_journals(journal).recent
    frames = [[line["frame"] for line in recent[path]] for path in sorted(recent)]
    assert sorted(frames) == [list(range(40 - RECENT, 40)), [100, 101, 102]]


@pytest.mark.parametrize("line", [{"frame": 0}, {"frame": -1, "name": "x", "dropped": "y"}, {"name": "x", "files": {}}])
def test_lines_of_something_else_are_refused(tmp_path, line):
    (tmp_path / "journal.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(UserError, match="altered"):
        JournalIndex([tmp_path / "journal.jsonl"])

import errno
import os

import pytest

from stereo.errors import UserError
from stereo.journal import Journal, read_journal


def test_lines_come_back_and_a_torn_one_is_cut_off(tmp_path):
    path = tmp_path / "set" / "journal.jsonl"
    journal = Journal(path)
    journal.append({"frame": 0}, {"frame": 1})
    journal.append()
    journal.close()
    whole = path.read_bytes()
    for torn in (b"{", b'{"frame": 2}', "{\u00e9".encode()[:2]):
        path.write_bytes(whole + torn)
        assert read_journal(path) == [{"frame": 0}, {"frame": 1}]
        resumed = Journal(path)
        assert resumed.lines == [{"frame": 0}, {"frame": 1}]
        assert path.read_bytes() == whole
        resumed.close()
    assert read_journal(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("line", [b"not json\n", b"[1]\n", b"\xff\xfe\n"])
def test_an_altered_line_is_an_error(tmp_path, line):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"frame": 0}\n' + line + b'{"frame": 2}\n')
    with pytest.raises(UserError, match=r"byte 13.*altered"):
        read_journal(path)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_what_could_not_be_synced_is_taken_back(tmp_path, monkeypatch, error):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append({"frame": 0})

    def fail(handle):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(UserError if isinstance(error, OSError) else KeyboardInterrupt):
            journal.append({"frame": 1})
    assert read_journal(path) == [{"frame": 0}]
    journal.append({"frame": 2})
    assert read_journal(path) == [{"frame": 0}, {"frame": 2}]


def test_a_second_writer_waits_its_turn(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(UserError, match="another process"):
        Journal(tmp_path / "journal.jsonl")
    journal.close()
    Journal(tmp_path / "journal.jsonl").close()

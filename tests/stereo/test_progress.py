import re

from stereo import progress as module
from stereo.progress import clock, progress, speed


def test_a_log_gets_plain_lines_with_rate_and_remaining_time(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with progress("label", 40) as ticker:
        for _ in range(40):
            now[0] += 1.0
            ticker.advance(note="kept 80 %")
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == "label: 10/40, 1.0 frames/s, 0:30 left, kept 80 %"
    assert len(lines) == 4, "one line per ten seconds"
    assert re.fullmatch(r"label: 40/40, 1\.0 frames/s, kept 80 %", lines[-1])


def test_unknown_total_and_no_work(capsys):
    with progress("read", None, unit="files") as ticker:
        assert ticker.rate == 0
        ticker.advance()
    with progress("nothing", 0):
        pass
    assert capsys.readouterr().out == ""


def test_clock():
    assert [clock(value) for value in (0, 59.4, 61, 3661)] == ["0:00", "0:59", "1:01", "1:01:01"]


def test_slow_work_still_has_a_speed():
    assert [speed(rate, "frames") for rate in (0.0, 0.0163, 0.5, 1.0, 12.34)] == [
        "0.0 frames/s", "0.016 frames/s", "0.5 frames/s", "1.0 frames/s", "12.3 frames/s",
    ]  # fmt: skip

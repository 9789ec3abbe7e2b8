"""The same engine timed by `trtexec`, TensorRT's own program, as a check of our own clock.

It is run as people run it: 200 ms of warm-up, 3 s, 10 iterations at least, CUDA graph. Its "GPU Compute Time" leaves
copies out, its "Latency" contains them.
https://docs.nvidia.com/deeplearning/tensorrt/latest/reference/command-line-programs.html
"""

from __future__ import annotations

import logging
import re
import shlex
import subprocess
from pathlib import Path

from deploy import system_files
from deploy.profile_records import CrossCheck
from deploy.results import Latency

ARGUMENTS = ("--useCudaGraph", "--warmUp=200", "--duration=3", "--iterations=10")
TIMEOUT_S = 300
# How far apart two honest clocks may be before a reader has to know.
TELL_PCT = 5.0
log = logging.getLogger(__name__)


def cross_check(path: Path, *, latency: Latency, without_copies: Latency | None) -> CrossCheck | None:
    """Time an engine with trtexec and compare.

    Args:
        path: the engine.
        latency, without_copies: what we measured of it.

    Returns:
        None where trtexec is not here, or, with a warning, when it cannot time this engine.
    """
    if system_files.find_program("trtexec") is None:
        return None
    arguments = (f"--loadEngine={path}", *ARGUMENTS)
    text = run_trtexec(path, *arguments)
    found = None if text is None else parse_summary(text, command=shlex.join(["trtexec", *arguments]))
    if text is not None and found is None:
        log.warning("trtexec did not time %s: %s", path.name, (text.strip().splitlines() or ["it said nothing"])[-1])
    return None if found is None else compared(found, latency=latency, without_copies=without_copies)


def run_trtexec(path: Path, *arguments: str) -> str | None:
    """What trtexec says about an engine; None, with a warning that has its reason, when it fails."""
    program = system_files.find_program("trtexec")
    assert program is not None
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, errors="replace",
                              timeout=TIMEOUT_S, stdin=subprocess.DEVNULL)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("trtexec did not time %s: %s", path.name, error)
        return None
    text = done.stdout + done.stderr
    if done.returncode == 0:
        return text
    reasons = [line for line in text.splitlines() if "[E]" in line] or text.strip().splitlines()[-1:]
    log.warning("trtexec did not time %s: %s", path.name, reasons[0].strip() if reasons else "it said nothing")
    return None


def parse_summary(text: str, *, command: str = "trtexec") -> CrossCheck | None:
    """The performance summary that trtexec prints; None where there is none."""
    check = CrossCheck(
        tool="trtexec",
        command=command,
        gpu_p50_ms=_median(text, "GPU Compute Time"),
        p50_ms=_median(text, "Latency"),
        pairs_per_s=_number(re.search(r"Throughput: ([\d.]+) qps", text)),
        difference_pct=None,
    )
    return None if check.gpu_p50_ms is None and check.p50_ms is None else check


def compared(check: CrossCheck, *, latency: Latency, without_copies: Latency | None) -> CrossCheck:
    """The check with our difference from it, copies left out where we can."""
    ours, theirs = (without_copies, check.gpu_p50_ms) if without_copies else (latency, check.p50_ms)
    difference = None if not theirs else round(100 * (ours.p50_ms / theirs - 1), 2)
    return CrossCheck(check.tool, check.command, check.gpu_p50_ms, check.p50_ms, check.pairs_per_s, difference)


def problem_of(check: CrossCheck) -> str | None:
    """What a reader must know when the two clocks disagree; None when they agree."""
    if check.difference_pct is None or abs(check.difference_pct) <= TELL_PCT:
        return None
    return f"trtexec times the same engine differently: ours is {check.difference_pct:+.0f} %"


def _median(text: str, name: str) -> float | None:
    # "H2D Latency" and "D2H Latency" stand in lines of their own, hence the start of the line or the log's bracket.
    return _number(re.search(rf"^(?:.*\]\s*)?{name}: .*?median = ([\d.]+) ms", text, re.MULTILINE))


def _number(match: re.Match[str] | None) -> float | None:
    return float(match[1]) if match else None

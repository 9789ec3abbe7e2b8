"""The frames of a video file, found from its packets without decoding: exact numbers, time stamps, where to start.

Frame n is the n-th in the order of presentation time stamps. All packets of the file are read once; 30 bytes a frame
stay in memory.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from stereo.errors import UserError, require

Ticks = npt.NDArray[np.int64]
MISSING = -1
INSTALL = "pip install 'stereodistill[video]'"
# Where frames come at equal times, a gap of this many intervals or more is lost frames and not jitter.
GAP = 1.5
# Formats of single images that videos may be made of; FFmpeg does not count them to those without references.
PICTURE_FORMATS = ("png", "bmp", "tiff", "targa", "sgi", "qoi")


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """What is known of a video before any frame is decoded. Decode positions count packets in file order, from 0.

    Args:
        count: frames, those that the file promises but does not hold included.
        position: decode position of each frame; -1 for a frame that is promised but not there.
        time: presentation time stamp of each frame; made up from the frame rate for those that are not there.
        stamps: presentation time stamp of each packet, by decode position.
        number: frame of each packet, by decode position; -1 for what is never shown.
        keys: decode positions of the key frames, rising.
        seek_stamps: time stamp to seek to for each key frame.
        time_base: seconds of one tick.
        rate: frames per second, 0 when unknown.
    """

    count: int
    position: Ticks
    time: Ticks
    stamps: Ticks
    number: Ticks
    keys: Ticks
    seek_stamps: Ticks
    time_base: Fraction
    rate: float

    def start_of(self, position: int) -> int:
        """The decode position to start at for the packet at `position`: the last key frame that is enough for it.

        Pictures that follow a key frame in the file but are shown before it may need the group before (open groups).
        """
        place = int(np.searchsorted(self.keys, position, side="right")) - 1
        while place >= 0 and self.stamps[self.keys[place]] > self.stamps[position]:
            place -= 1
        return int(self.keys[place]) if place >= 0 else 0

    def seek_stamp(self, start: int) -> int | None:
        """The time stamp to seek to for a position that `start_of` gave; None for the start of the file."""
        place = int(np.searchsorted(self.keys, start))
        return int(self.seek_stamps[place]) if start > 0 and place < len(self.keys) else None

    def without_key(self, start: int) -> VideoIndex:
        """The same without the key frame at this decode position, which turned out to be none."""
        kept = self.keys != start
        return replace(self, keys=self.keys[kept], seek_stamps=self.seek_stamps[kept])

    def time_ms(self, index: int) -> float:
        """Milliseconds since the first frame."""
        return float((int(self.time[index]) - int(self.time[0])) * self.time_base * 1000)

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Which frames the file holds."""
        return self.position != MISSING


def promised_frames(stream: Any, interval: float | None) -> int:
    """How many frames the file's header promises; 0 when it does not tell.

    Args:
        interval: ticks between frames where that is constant.
    """
    for tag in ("NUMBER_OF_FRAMES", "NUMBER_OF_FRAMES-eng"):
        if stream.metadata.get(tag, "").isdigit():
            return int(stream.metadata[tag])
    if stream.frames:
        return int(stream.frames)
    # Matroska tells no number, but (when it was written to its end) how long the track is.
    written = re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))
    if written and interval:
        seconds = int(written[1]) * 3600 + int(written[2]) * 60 + float(written[3])
        return round(seconds / (interval * float(stream.time_base)))
    return 0


def constant_interval(stamps: Ticks) -> float | None:
    """Ticks between frames when nearly all of them come at equal times; None for a variable frame rate.

    Args:
        stamps: rising.
    """
    steps = np.diff(stamps)
    if len(steps) < 2:
        return None
    usual = float(np.median(steps))
    # Matroska rounds to milliseconds, so equal times differ by one tick.
    equal = np.abs(steps - usual) <= max(1.0, 0.01 * usual)
    return float(np.mean(steps[equal])) if usual > 0 and equal.mean() >= 0.9 else None


def with_lost_frames(stamps: Ticks, interval: float | None, promised: int) -> tuple[Ticks, npt.NDArray[np.bool_]]:
    """Add the frames that the file promises but does not hold: into gaps where it should be even, else at the end.

    Only a file that holds less than it promises is damaged; gaps in others are how they were recorded.

    Args:
        stamps: of the frames that are there, rising.

    Returns:
        Stamps of all frames, and which of them are there.
    """
    lost = promised - len(stamps)
    if lost <= 0:
        return stamps, np.ones(len(stamps), bool)
    step = interval or (float(np.median(np.diff(stamps))) if len(stamps) > 1 else 1.0)
    times: list[int] = []
    there: list[bool] = []
    for stamp in stamps.tolist():
        if interval and times and stamp - times[-1] > GAP * interval:
            fill = min(lost, round((stamp - times[-1]) / interval) - 1)
            times += [round(times[-1] + step * (number + 1)) for number in range(fill)]
            there += [False] * fill
            lost -= fill
        times.append(stamp)
        there.append(True)
    last = times[-1] if times else 0
    times += [round(last + step * (number + 1)) for number in range(lost)]
    there += [False] * lost
    return np.array(times, np.int64), np.array(there, bool)


def index_video(container: Any, stream: Any, *, where: object) -> VideoIndex:
    """Read all packets of a video.

    Args:
        container, stream: of PyAV, at the start of the file.
        where: the file, for messages.

    Raises:
        UserError: no packets, or packets without time stamps.
    """
    errors = require("av.error", hint=INSTALL)
    if stream.codec_context is None:
        raise UserError("cannot open this as a video: its codec is not known", where=where, fix="convert it to H.264")
    shown, seek, flags = array("q"), array("q"), array("b")
    stampless = 0
    reorders = bool(stream.codec_context.has_b_frames)
    try:
        for packet in container.demux(stream):
            if not packet.size and packet.dts is None and packet.pts is None:
                continue  # the end, which PyAV marks by an empty packet
            stamp = packet.pts if packet.pts is not None or reorders else packet.dts
            if stamp is None:
                stampless += 1
                continue
            shown.append(stamp)
            seek.append(packet.dts if packet.dts is not None else stamp)
            flags.append((1 if packet.is_keyframe else 0) | (2 if packet.is_discard else 0))
    except errors.FFmpegError:
        pass  # what follows cannot be read; the header tells how much it was
    if stampless or not shown:
        found = f"{stampless} of its {stampless + len(shown)} packets have no time stamp" if stampless else "no packets"
        raise UserError(
            f"cannot open this as a video: {found}",
            where=where,
            fix="remux it: ffmpeg -fflags +genpts -i IN -c copy OUT.mkv" if stampless else "copy or record it again",
        )
    return arrange(np.array(shown), np.array(seek), np.array(flags), stream)


def arrange(stamps: Ticks, seek: Ticks, flags: npt.NDArray[np.int8], stream: Any) -> VideoIndex:
    """Sort packets into frames."""
    visible = np.flatnonzero(flags & 2 == 0)
    # Of packets with one stamp (the second field of a picture) the first stands for the frame.
    times, first = np.unique(stamps[visible], return_index=True)
    interval = constant_interval(times)
    all_times, there = with_lost_frames(times, interval, promised_frames(stream, interval))
    position = np.full(len(all_times), MISSING, np.int64)
    position[there] = visible[first]
    number = np.full(len(stamps), MISSING, np.int64)
    number[visible] = np.flatnonzero(there)[np.searchsorted(times, stamps[visible])]
    codec = stream.codec_context.codec
    # Where every picture stands alone, files forget to mark them.
    alone = codec.intra_only or codec.name in PICTURE_FORMATS
    keys = np.arange(len(stamps)) if alone else np.flatnonzero(flags & 1)
    rate = float(stream.average_rate or 0)
    return VideoIndex(
        len(all_times), position, all_times, stamps, number, keys, seek[keys], Fraction(stream.time_base), rate
    )

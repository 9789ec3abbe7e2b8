"""One video file, any frame by its exact number, decoded by PyAV (FFmpeg's libraries).

A frame is decoded from the key frame before it, or by going on from the last one read; both give the same bits. Where
the decoder notices damage, the damaged frame and all that follow it in the file up to the next key frame are lost:
FFmpeg would go on and conceal, and what it makes up must not be labelled. Damage that leaves a valid stream cannot be
noticed by anybody but the left-right check of the teacher.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stereo.errors import UserError, require
from stereo.pair import Image
from stereo.video_index import INSTALL, MISSING, index_video

UNREADABLE = "frame cannot be decoded"
DEPENDENT = "frame depends on a damaged one"
GONE = "frame is missing from the video"
ENDED = "video ends early"
PREDICTED = (2, 3)  # AV_PICTURE_TYPE_P and _B
# FFmpeg's defaults differ between processors in the last bit; these flags of its scaler make RGB the same everywhere:
# bicubic, full horizontal chroma, accurate rounding, bit-exact. As numbers, because not every PyAV names them.
EXACT = 0x4 | 0x2000 | 0x40000 | 0x80000


class VideoReader:
    """One video file; not safe to share between threads.

    Args:
        path: the file.

    Raises:
        UserError: no PyAV, not a video, or one without time stamps.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._av = require("av", hint=INSTALL)
        reformatter = require("av.video.reformatter", hint=INSTALL)
        self._reformatter = reformatter.VideoReformatter()
        self._open()
        self.index = index_video(self._container, self._stream, where=path)
        # Frames that come before a frame in the file but are shown after it: they must be out before it is trusted.
        self._shown_until = np.maximum.accumulate(self.index.number)
        self._run: Run | None = None
        self.width, self.height = self._stream.codec_context.width, self._stream.codec_context.height
        if not self.width or not self.height:
            raise UserError("cannot open this as a video: no picture size", where=path, fix="copy it again")

    def _open(self) -> None:
        try:
            self._container = self._av.open(str(self.path))
        except (self._av.error.FFmpegError, OSError, ValueError) as error:
            raise UserError(
                f"cannot open this as a video: {getattr(error, 'strerror', None) or error}",
                where=self.path,
                fix="is it truncated? copy it again, or repair it: ffmpeg -i IN -c copy OUT.mkv",
            ) from error
        if not self._container.streams.video:
            kinds = sorted({stream.type for stream in self._container.streams})
            self._container.close()
            raise UserError(
                f"cannot open this as a video: it has no video stream, only {', '.join(kinds) or 'nothing'}",
                where=self.path,
            )
        self._stream = self._container.streams.video[0]
        # Frame threads would tell of a damaged packet only when others are under way.
        self._stream.thread_type = "SLICE"

    @property
    def count(self) -> int:
        """How many frames it has, or should have."""
        return self.index.count

    @property
    def fps(self) -> float:
        """Frames per second; 0 when unknown."""
        return self.index.rate

    def close(self) -> None:
        """Release the decoder."""
        self._run = None
        self._container.close()

    def read(self, index: int) -> Image | str:
        """The frame with this number as uint8 H×W×3 RGB; or, when it is lost, why."""
        position = int(self.index.position[index])
        if position == MISSING:
            after = self.index.present[index:].any()
            return GONE if after else ENDED
        while True:
            start = self.index.start_of(position)
            if self._run is None or not self._run.leads_to(index, start):
                self._run = Run(self, start)
            found = self._run.read(index, position, int(self._shown_until[position]))
            if not self._run.false_start:
                return found if isinstance(found, str) else self._to_rgb(found)
            self.index = self.index.without_key(start)
            self._run = None

    def _to_rgb(self, frame: Any) -> Image | str:
        if (frame.width, frame.height) != (self.width, self.height):
            return f"{UNREADABLE}: it is {frame.width}x{frame.height}"
        try:
            shown = self._reformatter.reformat(frame, format="rgb24", interpolation=EXACT)
        except (self._av.error.FFmpegError, ValueError):
            return UNREADABLE
        return np.ascontiguousarray(shown.to_ndarray(), dtype=np.uint8)

    def packets_from(self, start: int) -> Iterator[tuple[int, Any]]:
        """Packets with their decode position, from a position that `start_of` gave, the decoder made fresh.

        None instead of a packet: there should be one, but the file cannot be read there.
        """
        stamp = self.index.seek_stamp(start)
        if stamp is not None:
            try:
                self._container.seek(stamp, stream=self._stream, backward=True)
                found = self._numbered(start)
                if found is not None:
                    yield from found
                    return
            except self._av.error.FFmpegError:
                pass  # this format cannot seek; from the start it is slow, but right
        self._container.close()
        self._open()
        yield from self._from_start(start)

    def _from_start(self, start: int) -> Iterator[tuple[int, Any]]:
        for position, packet in enumerate(self._container.demux(self._stream)):
            if not packet.size and packet.pts is None and packet.dts is None:
                return
            if position >= start:
                yield position, packet

    def _numbered(self, start: int) -> Iterator[tuple[int, Any]] | None:
        """Packets after a seek, from the key frame at `start`; None when the seek went past it."""
        wanted = int(self.index.stamps[start])
        packets = self._container.demux(self._stream)
        for packet in packets:
            if not packet.size and packet.pts is None and packet.dts is None:
                return None
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp == wanted:
                return self._follow(start, packet, packets)
            if packet.dts is not None and packet.dts > max(wanted, int(self.index.seek_stamp(start) or wanted)):
                return None
        return None

    def _follow(self, start: int, first: Any, packets: Iterator[Any]) -> Iterator[tuple[int, Any]]:
        yield start, first
        position = start
        for packet in packets:
            if not packet.size and packet.pts is None and packet.dts is None:
                return
            position += 1
            stamp = packet.pts if packet.pts is not None else packet.dts
            if position >= len(self.index.stamps) or stamp != self.index.stamps[position]:
                yield position, None  # not what followed when the file was read from its start
                return
            yield position, packet


class Run:
    """Decoding from one key frame onwards, as far as it goes without damage.

    Args:
        reader: whose video it is; the reader has one run at a time.
        start: decode position of the key frame.
    """

    def __init__(self, reader: VideoReader, start: int) -> None:
        self._reader, self._index, self._start = reader, reader.index, start
        self._packets = reader.packets_from(start)
        # Frames shown before the first key frame of the run lack what they were predicted from.
        first_key = start if start in self._index.keys else next(iter(self._index.keys.tolist()), start)
        self._first = int(self._index.number[first_key])
        self._next = start  # decode position of the next packet
        self._waiting: dict[int, Any] = {}  # frame number → decoded frame
        self._newest = -1  # the last frame number that came out of the decoder
        self._passed = -1  # the last frame number that was asked for
        self._damage: int | None = None  # decode position
        # Files mark pictures as key frames that others are needed for: those that refresh the image bit by bit.
        self.false_start = False
        self._ended = False

    def leads_to(self, index: int, start: int) -> bool:
        """Whether going on from here gives a frame as starting at its key frame would, and no later."""
        if index <= self._passed or start < self._start:
            return False
        return start <= (self._next if self._damage is None else self._damage)

    def read(self, index: int, position: int, shown_until: int) -> Any:
        """The decoded frame of PyAV, or why it is lost.

        It waits until all frames that come earlier in the file are out, because each of them may be what this one was
        predicted from, and only then tells that it is damaged.
        """
        self._passed = index
        while not self._ended and self._newest < max(index, shown_until):
            self._advance()
        for number in [number for number in self._waiting if number < index]:
            del self._waiting[number]
        frame = self._waiting.pop(index, None)
        if self._damage is not None and position >= self._damage:
            if position == self._damage:
                return UNREADABLE
            return f"{DEPENDENT}: frame {self._index.number[self._damage]}"
        return UNREADABLE if frame is None else frame

    def _advance(self) -> None:
        """Decode one more packet."""
        av = self._reader._av
        try:
            position, packet = next(self._packets, (None, None))
        except av.error.FFmpegError:
            position, packet = self._next, None
        if position is None:
            self._end()
        elif packet is None or packet.is_corrupt:
            self._stop_at(position)
        elif packet.size:  # an empty one is a frame that was dropped while recording
            self._next = position + 1
            try:
                self._take(self._reader._stream.codec_context.decode(packet))
            except av.error.FFmpegError:
                self._stop_at(position)

    def _end(self) -> None:
        """Take what the decoder still holds; nothing comes after it."""
        self._ended = True
        try:
            self._take(self._reader._stream.codec_context.decode(None))
        except self._reader._av.error.FFmpegError:
            return

    def _stop_at(self, position: int) -> None:
        """Note damage at a decode position: what the decoder holds from before it comes out, then the run ends."""
        if 0 <= self._index.number[position : position + 1].max(initial=-1) < self._first:
            return
        self._damage = position if self._damage is None else min(position, self._damage)
        if not self._ended:
            self._end()

    def _take(self, frames: list[Any]) -> None:
        for frame in frames:
            stamp = frame.pts if frame.pts is not None else frame.dts
            if stamp is None:
                continue
            number = int(np.searchsorted(self._index.time, stamp))
            if number >= self._index.count or self._index.time[number] != stamp:
                continue
            position = int(self._index.position[number])
            if number < self._first:
                continue
            if self._newest < 0 and self._start > 0:
                self.false_start = number > self._first or int(frame.pict_type) in PREDICTED
            self._newest = max(self._newest, number)
            if frame.is_corrupt:
                self._stop_at(position)
            elif number >= self._passed:
                self._waiting[number] = frame

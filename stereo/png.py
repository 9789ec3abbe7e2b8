"""How hard PNG files are compressed."""

from __future__ import annotations

import cv2

# Level 1 is for what is written while a teacher waits. At 640x480, one core, against zlib's own level 1: an RGB image
# takes 10 ms and 512 kB instead of 18 ms and 497 kB, a disparity map 6 ms and 153 kB instead of 11 ms and 189 kB, a
# confidence map 4 ms and 148 kB instead of 7 ms and 170 kB.
FAST = 1


def png_flags(compression: int) -> list[int]:
    """Flags for `cv2.imencode`.

    Args:
        compression: 1 (fast) to 9 (small). 1 filters every row by Paeth's rule and leaves out zlib's search for
            repetitions, which sensor noise does not have.
    """
    flags = [cv2.IMWRITE_PNG_COMPRESSION, compression]
    if compression == FAST:
        flags += [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY]
        if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # older releases of OpenCV choose the filter themselves
            flags += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_PAETH]
    return flags

"""How hard PNG files are compressed."""

from __future__ import annotations

import cv2

# Level 1 is for what is written while a teacher waits. At 640x480, one core, against Paeth's filter: an RGB image takes
# 11 ms and 629 kB instead of 15 ms and 624 kB, a disparity map 9 ms and 177 kB instead of 11 ms and 171 kB, a map of
# confidence 5 ms and 176 kB instead of 7 ms and 158 kB; all three are read in two thirds of the time. zlib's own search
# for repetitions takes 5 ms more for an RGB image and makes it larger.
FAST = 1


def png_flags(compression: int) -> list[int]:
    """Flags for `cv2.imencode`.

    Args:
        compression: 1 (fast) to 9 (small). 1 stores differences to the pixel on the left and leaves out zlib's
            search for repetitions, which sensor noise does not have.
    """
    flags = [cv2.IMWRITE_PNG_COMPRESSION, compression]
    if compression == FAST:
        flags += [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY]
        if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # older releases of OpenCV choose the filter themselves
            flags += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB]
    return flags

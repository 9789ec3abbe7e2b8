"""How fast the bytes of a PNG file are packed: zlib beside libraries that could take its place, if they are installed.

    pip install isal zlib-ng
    OMP_NUM_THREADS=1 python benchmarks/png_encoders.py

One RGB image of 640×480 with ±3 levels of noise, as differences to the pixel on the left; the median of CPU times. The
first row is the whole file by OpenCV with the flags that label sets are written with.
"""

from __future__ import annotations

import importlib
import statistics
import time
import zlib
from collections.abc import Callable

import cv2
import numpy as np

from stereo.pictures import encode_png
from stereo.png import FAST

ROUNDS = 15


def noisy_image() -> np.ndarray:
    """uint8 480×640×3."""
    rng = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(rng.integers(0, 255, (480, 640, 3), dtype=np.uint8), (0, 0), 3)
    stretched = cv2.normalize(smooth, np.empty_like(smooth), 0, 255, cv2.NORM_MINMAX)
    return np.clip(stretched.astype(int) + rng.integers(-3, 4, stretched.shape), 0, 255).astype(np.uint8)


def by_huffman(library: object, data: bytes) -> bytes:
    """Pack with Huffman codes alone, as label sets do."""
    squeeze = library.compressobj(6, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY)  # type: ignore[attr-defined]
    return squeeze.compress(data) + squeeze.flush()


def main() -> None:
    """Print a row per encoder."""
    image = noisy_image()
    data = np.diff(image.astype(np.int16), axis=1, prepend=0).astype(np.uint8).tobytes()
    encoders: dict[str, Callable[[], bytes]] = {
        "OpenCV, whole file": lambda: encode_png(image, compression=FAST),
        "zlib, Huffman only": lambda: by_huffman(zlib, data),
    }
    for name, module, pack in (
        ("zlib-ng, Huffman only", "zlib_ng.zlib_ng", by_huffman),
        ("ISA-L, level 1", "isal.isal_zlib", lambda library, raw: library.compress(raw, 1)),
    ):
        try:
            library = importlib.import_module(module)
        except ImportError:
            print(f"{name}: {module.split('.')[0]} is not installed")
            continue
        encoders[name] = lambda library=library, pack=pack: pack(library, data)
    times: dict[str, list[float]] = {name: [] for name in encoders}
    sizes: dict[str, int] = {}
    for _ in range(ROUNDS):
        for name, encode in encoders.items():
            start = time.process_time()
            sizes[name] = len(encode())
            times[name].append(1000 * (time.process_time() - start))
    for name, measured in times.items():
        print(f"{name:24} {statistics.median(measured):6.1f} ms   {sizes[name]:8} bytes")


if __name__ == "__main__":
    main()

"""What the spelling of an axial-planar convolution costs while training in PyTorch: forward and backward, per form.

    OMP_NUM_THREADS=1 python benchmarks/apc_forms.py [--channels 16 --planes 24 --size 24x48 --batch 4]

Forms take turns in one process; the ratio is the median over rounds of a form's time by that of the 3-D form.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import get_args

import torch

from stereo.options import parse_size
from teacher.blocks.axial_planar_convolution import AxialPlanarConv, Form


def main() -> None:
    """Print a line per form."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--planes", type=int, default=24)
    parser.add_argument("--size", default="24x48", help="of the volume, HEIGHTxWIDTH")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--kernel", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    block = AxialPlanarConv(options.channels, options.channels, disparity_kernel=options.kernel).to(options.device)
    shape = (options.batch, options.channels, options.planes, *parse_size(options.size, multiple=1))
    volume = torch.randn(shape, device=options.device, requires_grad=True)
    gradient = torch.randn(shape, device=options.device)
    times: dict[str, list[float]] = {form: [] for form in get_args(Form)}
    for number in range(options.rounds + 1):
        for form, measured in times.items():
            block.form = form
            start = time.perf_counter()
            torch.autograd.backward(block(volume), gradient)
            if volume.device.type == "cuda":
                torch.cuda.synchronize()
            if number:  # the first round plans the convolutions
                measured.append(1000 * (time.perf_counter() - start))
    print(f"{tuple(shape)} on {options.device}, {torch.get_num_threads()} thread(s), torch {torch.__version__}")
    for form, measured in times.items():
        ratios = [mine / plain for mine, plain in zip(measured, times["conv3d"], strict=True)]
        ratio = statistics.median(ratios)
        print(f"{form:8} {statistics.median(measured):8.1f} ms   {ratio:.2f} of conv3d   n {len(measured)}")


if __name__ == "__main__":
    main()

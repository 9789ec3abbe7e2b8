"""`stereodistill summary`: what a student costs, block by block."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from deploy.models import shipped_students
from stereo.errors import UserError
from stereo.options import parse_size
from student.activation_memory import activation_memory_mb
from student.checkpoint import load_student
from student.config import SummaryConfig
from student.model import SIZE_MULTIPLE, StudentStereo
from student.presets import PRESETS, build_student


def count_macs(student: StudentStereo, size: tuple[int, int]) -> dict[str, float]:
    """Multiply-accumulates of one pair in units of 10⁹, for every top-level block and in all ("total").

    Counted by torch's flop counter over convolutions and matrix products; the rest (sums, gathers, activations) is not
    counted, as is the custom.
    """
    student = student.eval()
    example = torch.zeros(1, 3, *size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        student(example, example)
    root = type(student).__name__
    counts = {name: sum(flops.values()) / 2e9 for name, flops in counter.get_flop_counts().items()}
    blocks = {name: counts.get(f"{root}.{name}", 0.0) for name, _ in student.named_children()}
    total = counter.get_total_flops() / 2e9
    return {**blocks, "row correlation": total - sum(blocks.values()), "total": total}


def summary(config: SummaryConfig) -> None:
    """The verb `summary`: a table on stdout."""
    size = parse_size(config.size, multiple=SIZE_MULTIPLE)
    if config.preset in PRESETS and config.preset not in shipped_students():
        student = build_student(config.preset, max_disp=config.max_disp, iterations=config.iterations)
    elif not Path(config.preset).suffix and config.preset not in shipped_students():
        raise UserError(f"no student '{config.preset}'", fix=f"a .safetensors file, or one of: {', '.join(PRESETS)}")
    else:
        student = load_student(config.preset, max_disp=config.max_disp, iterations=config.iterations)
    macs = count_macs(student, size)
    memory_mb = activation_memory_mb(student, *torch.zeros(2, 1, 3, *size))
    title = f"{student.config.preset}, {config.size}, max_disp {student.config.max_disp}, "
    table = Table(title=title + f"{student.config.iterations} iterations")
    for heading in ("block", "GMAC", "share", "parameters", "activations MB"):
        table.add_column(heading, justify="left" if heading == "block" else "right")
    sizes = {name: sum(weight.numel() for weight in block.parameters()) for name, block in student.named_children()}
    sizes["total"] = sum(sizes.values())
    for name, gmac in macs.items():
        share = f"{100 * gmac / macs['total']:.1f} %"
        parameters = f"{sizes[name]:,}" if name in sizes else ""
        table.add_row(name, f"{gmac:.3f}", share, parameters, f"{memory_mb[name]:.1f}" if name in memory_mb else "")
    Console(file=sys.stdout).print(table)

"""Quantizer layers beside vector-quantize-pytorch's: time and memory of a training step, in one process.

    pip install vector-quantize-pytorch
    python benchmarks/vq_layers.py [--cases ema-1024 ema-8192 ...]

Forward and backward of 100,000 vectors of 64 numbers, both sides in turn, medians of 7. Peak memory is that
of a process which does nothing else, less what it held before the step. Writes benchmarks/vq_layers.json;
cases that are not named keep their figures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import vector_quantize_pytorch as theirs
from torch import Tensor, nn

from geovq.seeding import set_threads, threads_wanted, torch_generator
from geovq.vq import EMAVQ, FSQ, LFQ, QuantizerLayer, ResidualVQ, RotationVQ
from measuring import row, timed_in_turn, write_figures

OUT = Path(__file__).with_suffix(".json")
N, DIM, N_RUNS = 100_000, 64, 7
LEVELS, N_BITS, N_RESIDUAL = (8, 5, 5, 5), 10, 4


@dataclass(frozen=True)
class Case:
    """One layer of ours and theirs, and the factors that are hoped for."""

    title: str
    ours: Callable[[], QuantizerLayer]
    theirs: Callable[[], nn.Module]
    faster: float
    memory: bool = False


def _vector_quantize(n_codes: int, rotation: bool) -> nn.Module:
    return theirs.VectorQuantize(DIM, n_codes, decay=0.99, rotation_trick=rotation)


def _residual() -> ResidualVQ:
    layer = {"kind": "ema", "params": {"n_codes": 1024, "start": "random", "revival": 0.0}}
    return ResidualVQ(DIM, layer, N_RESIDUAL)


def _ema(kind: type[EMAVQ], n_codes: int) -> EMAVQ:
    return kind(DIM, n_codes, start="random", revival=0.0)


CASES = {
    "ema-1024": Case(
        "EMA, K = 1,024",
        lambda: _ema(EMAVQ, 1024),
        lambda: _vector_quantize(1024, False),
        10,
        memory=True,
    ),
    "ema-8192": Case(
        "EMA, K = 8,192",
        lambda: _ema(EMAVQ, 8192),
        lambda: _vector_quantize(8192, False),
        5,
        memory=True,
    ),
    "rotation-1024": Case(
        "rotation trick, K = 1,024",
        lambda: _ema(RotationVQ, 1024),
        lambda: _vector_quantize(1024, True),
        1,
    ),
    "fsq": Case(
        f"FSQ, levels {LEVELS}",
        lambda: FSQ(DIM, LEVELS),
        lambda: theirs.FSQ(list(LEVELS), dim=DIM),
        1,
    ),
    "lfq": Case(
        f"LFQ, {N_BITS} bits",
        lambda: LFQ(DIM, n_bits=N_BITS),
        lambda: theirs.LFQ(codebook_size=2**N_BITS, dim=DIM),
        1,
    ),
    "residual": Case(
        f"residual, {N_RESIDUAL} levels of 1,024",
        _residual,
        lambda: theirs.ResidualVQ(
            dim=DIM, num_quantizers=N_RESIDUAL, codebook_size=1024, decay=0.99, rotation_trick=False
        ),
        1,
    ),
}


def main() -> None:
    """Measure the cases that are named, or all."""
    parser = argparse.ArgumentParser(description="Time quantizer layers beside vector-quantize-pytorch's.")
    parser.add_argument("--cases", nargs="+", choices=sorted(CASES), default=list(CASES))
    parser.add_argument("--peak", nargs=2, metavar=("CASE", "SIDE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    threads = threads_wanted()
    set_threads(threads)
    if options.peak:
        print(peak_memory(*options.peak))
        return
    known: dict[str, Any] = json.loads(OUT.read_text())["cases"] if OUT.exists() else {}
    for name in options.cases:
        known[name] = measured(name)
        rows = [figure for case in CASES if case in known for figure in known[case]]
        write_figures(
            OUT,
            title="Quantizer layers beside vector-quantize-pytorch's",
            about=(
                f"{N:,} normal vectors of {DIM} numbers, forward and backward in training mode, medians of "
                f"{N_RUNS}, both sides in turn; vector-quantize-pytorch "
                f"{version('vector-quantize-pytorch')}, the same decay, no revival, no k-means start. Peak "
                "memory of a step in a process of its own. Measured beside other work, the cases at "
                "different times."
            ),
            command="python benchmarks/vq_layers.py",
            threads=threads,
            rows=rows,
            cases=known,
        )


def measured(name: str) -> list[dict[str, Any]]:
    """Rows of one case."""
    case = CASES[name]
    ours, other = case.ours().train(), case.theirs().train()
    rows = []
    if isinstance(ours, EMAVQ):
        rows.append(row(f"{case.title}: equal codes from one codebook", equal_codes(ours, other), "share", 1))
    z = vectors()
    (mine, others), _ = timed_in_turn([lambda: our_step(ours, z), lambda: their_step(other, z)], N_RUNS)
    rows += [
        row(f"{case.title}: a step", 1e3 * mine, "ms"),
        row("  vector-quantize-pytorch", 1e3 * others, "ms"),
        row("  times faster", others / mine, "", case.faster),
    ]
    if case.memory:
        peaks = {side: peak_of_process(name, side) for side in ("ours", "theirs")}
        rows += [
            row(f"{case.title}: peak memory of a step", peaks["ours"], "MB"),
            row("  vector-quantize-pytorch", peaks["theirs"], "MB"),
            row("  times less", peaks["theirs"] / peaks["ours"], "", 10),
        ]
    return rows


def vectors() -> Tensor:
    """What is quantized (n, d)."""
    return torch.randn(N, DIM, generator=torch_generator(0, "vq_layers benchmark")).requires_grad_()


def our_step(layer: QuantizerLayer, z: Tensor) -> None:
    """Forward and backward of a layer of ours."""
    z.grad = None
    quantized = layer(z)
    (quantized.z_q.square().sum() + quantized.loss).backward()


def their_step(layer: nn.Module, z: Tensor) -> None:
    """Forward and backward of a layer of theirs, which return tuples of different lengths."""
    z.grad = None
    output = layer(z[None])
    loss = sum(part.sum() for part in output[2:3] if part.requires_grad)
    (output[0].square().sum() + loss).backward()


@torch.no_grad()
def equal_codes(ours: EMAVQ, other: nn.Module) -> float:
    """Share of vectors to which both sides give the same code of the same codebook."""
    other._codebook.embed.copy_(ours.codebook[None])
    other._codebook.embed_avg.copy_(ours.codebook[None])
    z = vectors()
    found, expected = ours.eval()(z).codes, other.eval()(z[None])[1].reshape(-1)
    ours.train(), other.train()
    return float((found == expected).double().mean())


def peak_of_process(name: str, side: str) -> float:
    """``peak_memory`` in a process of its own."""
    command = [sys.executable, __file__, "--peak", name, side]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def peak_memory(name: str, side: str) -> float:
    """Megabytes that two steps need beside what the process holds before them."""
    case, z = CASES[name], vectors()
    layer = (case.ours() if side == "ours" else case.theirs()).train()
    # getrusage would also count what the process that started this one held.
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    for _ in range(2):
        if side == "ours":
            our_step(layer, z)
        else:
            their_step(layer, z)
    return resident("VmHWM") - before


def resident(name: str) -> float:
    """``VmRSS``, the megabytes held now, or ``VmHWM``, the most since the count was cleared (Linux)."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name + ":")
    )
    return int(line.split()[1]) / 1e3


if __name__ == "__main__":
    main()

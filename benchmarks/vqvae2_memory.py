"""Memory and time of hierarchical VQ-VAEs by image size, and memory of a run by the number of images.

    python benchmarks/vqvae2_memory.py

Every figure comes from a process of its own. Writes benchmarks/vqvae2_memory.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from geovq.config import ArmConfig, DataConfig, ModelConfig, RunConfig, Spec, TrainConfig
from geovq.models.vqvae2 import VQVAE2
from geovq.pipeline.run import run_recipe
from geovq.seeding import numpy_generator, seeded_weights, set_threads, torch_generator
from geovq.tokenizer import HierarchicalTokenizer
from measuring import row, write_figures

OUT = Path(__file__).with_suffix(".json")
N_RUNS = 3
N_CODES, LATENT_DIM, BLOCKS = 512, 16, 2
FOLDER_SIZES, FOLDER_SIDE = (200, 2_000), 128
N_SLOTS = (FOLDER_SIDE // 4) ** 2 + (FOLDER_SIDE // 8) ** 2
MOST_GROWTH = 1.1
MMAP_THRESHOLD = "262144"


@dataclass(frozen=True)
class Case:
    """Square images, and the model that is trained on ``batch`` of them."""

    side: int
    levels: int
    widths: tuple[int, ...]
    batch: int

    @property
    def title(self) -> str:
        """What the rows of the case begin with."""
        images = "1 image" if self.batch == 1 else f"{self.batch} images"
        return f"{images} of {self.side:,}x{self.side:,}, {self.levels} levels"


CASES = (
    Case(32, 2, (64, 64), 128),
    Case(256, 2, (64, 64), 8),
    Case(256, 2, (64, 64), 1),
    Case(256, 3, (64, 64), 1),
    Case(1024, 3, (64, 64, 64), 1),
)
JOBS = ("step", "codes")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Memory and time of hierarchical VQ-VAEs.")
    parser.add_argument("--case", nargs=2, metavar=("NUMBER", "JOB"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", nargs=2, metavar=("IMAGES", "OUT"), type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    set_threads(1)
    if arguments.case:
        number, job = arguments.case
        measure(CASES[int(number)], job)
        return
    if arguments.folder:
        measure_run(*arguments.folder)
        return
    rows = []
    for number, case in enumerate(CASES):
        step, codes = (child("--case", str(number), job) for job in JOBS)
        rows += [
            row(f"{case.title}: peak memory of a training step", step["peak_mb"], "MB"),
            row("  seconds", step["seconds"], "s"),
            row("  peak memory of encoding and decoding", codes["peak_mb"], "MB"),
            row("  seconds", codes["seconds"], "s"),
        ]
    rows += of_runs()
    write_figures(
        OUT,
        title="Hierarchical VQ-VAEs by size and number of images",
        about=(
            f"VQVAE2 with 64 channels, {BLOCKS} residual blocks and {N_CODES} codes of {LATENT_DIM} numbers "
            "a level, learnt by moving averages, in float32 on one thread: two halvings before the bottom "
            "level, three at 1,024x1,024. Peak memory is that of a process of its own less its peak after "
            f"imports; seconds are the processor's, medians of {N_RUNS} after a first one that also starts "
            f"the codebook. Runs are of PNG files of {FOLDER_SIDE}x{FOLDER_SIDE}: a small VQVAE2 of two "
            f"levels trained for one epoch, all images encoded to {N_SLOTS:,} codes, held-out ones decoded "
            "and measured. Codes are held for all images, as int64, everything else by batch or chunk. By "
            "default glibc keeps much of what is freed, the more the longer a run; with a fixed "
            f"MALLOC_MMAP_THRESHOLD_ ({MMAP_THRESHOLD}) it returns large arrays at once."
        ),
        command="python benchmarks/vqvae2_memory.py",
        threads=1,
        rows=rows,
    )


def child(*arguments: str, **environment: str) -> dict[str, float]:
    """What a fresh process prints, with additions to the environment."""
    command = [sys.executable, __file__, *arguments]
    settings = {**os.environ, "GEOVQ_THREADS": "1", **environment}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=settings)
    return json.loads(done.stdout)


def measure(case: Case, job: str) -> None:
    """Print seconds and peak memory of one job on one case."""
    before = peak_mb()
    params = {
        "layers": [{"kind": "ema", "params": {"n_codes": N_CODES}}] * case.levels,
        "latent_dim": LATENT_DIM,
        "widths": list(case.widths),
        "blocks": BLOCKS,
    }
    shape = (3, case.side, case.side)
    with seeded_weights(0, "vqvae2_memory benchmark"):
        model = VQVAE2(shape, **params)
    generator = torch_generator(0, "vqvae2_memory benchmark")
    images = torch.rand((case.batch, *shape), generator=generator)
    if job == "step":
        optimizer = torch.optim.AdamW(model.parameters())
        seconds = median_seconds(lambda: training_step(model, optimizer, images, generator))
    else:
        tokenizer = HierarchicalTokenizer(model, image_shape=shape, architecture=Spec("vqvae2", params))
        seconds = median_seconds(lambda: tokenizer.decode(tokenizer.encode(images)))
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb() - before}))


def training_step(
    model: VQVAE2, optimizer: torch.optim.Optimizer, images: torch.Tensor, generator: torch.Generator
) -> None:
    """Forward, backward and update."""
    optimizer.zero_grad()
    model.loss((images,), generator)["total"].backward()
    optimizer.step()


def median_seconds(call: Callable[[], Any]) -> float:
    """Processor seconds of a call, the first one left out."""
    seconds = []
    for _ in range(1 + N_RUNS):
        began = time.process_time()
        call()
        seconds.append(time.process_time() - began)
    return statistics.median(seconds[1:])


def of_runs() -> list[dict[str, Any]]:
    """Rows of runs on folders of few and of many images, by the way memory is given back."""
    ways = {"": {}, ", fixed threshold": {"MALLOC_MMAP_THRESHOLD_": MMAP_THRESHOLD}}
    few, many = FOLDER_SIZES
    rows = []
    with tempfile.TemporaryDirectory() as parent:
        for n in FOLDER_SIZES:
            write_images(Path(parent) / f"images-{n}", n)
        for number, (way, environment) in enumerate(ways.items()):
            peaks = {
                n: child("--folder", f"{parent}/images-{n}", f"{parent}/run-{n}-{number}", **environment)
                for n in FOLDER_SIZES
            }
            small, large = (peaks[n]["peak_mb"] for n in FOLDER_SIZES)
            rows += [
                row(f"a run on a folder of {few:,} images: peak memory{way}", small, "MB"),
                row(f"  of {many:,} images", large, "MB"),
                row("  the second over the first", large / small, "", MOST_GROWTH),
            ]
    return [*rows, row(f"codes of {many - few:,} more images", 8e-6 * N_SLOTS * (many - few), "MB")]


def write_images(folder: Path, n: int) -> None:
    """PNG files of smooth noise."""
    folder.mkdir()
    generator = numpy_generator(0, "vqvae2_memory benchmark")
    for number in range(n):
        coarse = Image.fromarray(generator.integers(256, size=(8, 8, 3), dtype=np.uint8))
        coarse.resize((FOLDER_SIDE, FOLDER_SIDE), Image.Resampling.BICUBIC).save(folder / f"{number:05}.png")


def measure_run(images: Path, out: Path) -> None:
    """Print the peak memory of a run on a folder of images, up to its evaluation."""
    before = peak_mb()
    params = {
        "layers": [{"kind": "ema", "params": {"n_codes": 64}}] * 2,
        "latent_dim": 8,
        "widths": [16, 16],
        "blocks": 1,
        "normalization": "train",
    }
    config = RunConfig(
        recipe="vqvae2-memory",
        data=DataConfig(f"folder:{images}"),
        bits=6.0 * N_SLOTS,
        models={"vqvae2": ModelConfig(Spec("vqvae2", params), TrainConfig(epochs=1, batch_size=32))},
        arms=(ArmConfig("vqvae2", "vqvae2"),),
        prior=None,
    )
    run_recipe(config, out, stop_after="evaluate")
    print(json.dumps({"peak_mb": peak_mb() - before}))


def peak_mb() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()

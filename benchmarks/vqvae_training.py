"""Where the time of training a VQ-VAE goes, and the same training beside a plain loop.

    python benchmarks/vqvae_training.py [--data cifar-bin:PATH]

The model of ``cifar10-residual-vqvae-small`` with moving averages. Without ``--data`` the images are noise,
which takes as long. Writes benchmarks/vqvae_training.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar
from unittest.mock import patch

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader

from geovq.config import DataConfig, ModelConfig, Spec, TrainConfig
from geovq.data import BatchOrder, ImageSet, chunks_of, image_set, load, to_bytes
from geovq.data.statistics import channel_statistics
from geovq.models.vqvae import VQVAE
from geovq.models.weights import arrays_of
from geovq.recipes import cifar10_residual_vqvae_small
from geovq.registry import build
from geovq.seeding import (
    numpy_generator,
    seeded_weights,
    set_threads,
    torch_generator,
)
from geovq.training import ImageSource, TrainingState, fit, loop
from geovq.training.checkpoint import save_checkpoint
from geovq.vq import EMAVQ, codebook_layer
from geovq.vq.watch import Watch
from measuring import row, timed, write_figures
from plain_vqvae import DecodedImages, PlainLoop, TextbookVQ

OUT = Path(__file__).with_suffix(".json")
N_IMAGES, N_STEPS = 20_000, 60
SHAPE = (3, 32, 32)
Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("bfloat16", "float32")
LARGEST_SHARE, FACTOR = 5, 1.3

DATA, LOGGING, CHECKPOINTS = "data", "logging", "checkpoints"
CHECKS, FORWARD, BACKWARD, OPTIMIZER = "checks", "forward", "backward", "optimizer"
ABOUT = {
    DATA: "data: choosing, reading and converting a batch",
    LOGGING: "logging: watching the codebook, reading the terms back",
    CHECKPOINTS: f"checkpoints: writing one, over the steps of {loop.CHECKPOINT_SECONDS} s",
    CHECKS: "checks that latents and gradient are finite",
    FORWARD: "forward",
    BACKWARD: "backward",
    OPTIMIZER: "optimizer",
}
Call = tuple[str, Any, str]
"""A part of a step, and the owner and name of a call that belongs to it."""

TIMED: tuple[Call, ...] = (
    (DATA, BatchOrder, "indices"),
    (DATA, ImageSource, "rows"),
    (LOGGING, Watch, "forward"),
    (LOGGING, loop, "_numbers"),
    (CHECKS, codebook_layer, "checked_tokens"),
    (CHECKS, torch.nn.utils, "get_total_norm"),
    (FORWARD, VQVAE, "loss"),
    (BACKWARD, Fabric, "backward"),
    (OPTIMIZER, torch.optim.AdamW, "step"),
)
TIMED_IN_BOTH: tuple[Call, ...] = (
    ("data", BatchOrder, "indices"),
    ("data", ImageSource, "rows"),
    ("quantizer", EMAVQ, "forward"),
    ("plain data", PlainLoop, "batch"),
    ("plain quantizer", TextbookVQ, "forward"),
)

Result = TypeVar("Result")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Time the training of a VQ-VAE beside a plain loop.")
    parser.add_argument("--data", default="", help="images of 32x32 such as cifar-bin:PATH, instead of noise")
    parser.add_argument("--compare", choices=PRECISIONS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    set_threads(1)
    pixels = real_pixels(arguments.data) if arguments.data else noise()
    if arguments.compare:
        print(json.dumps(compared(pixels, arguments.compare)))
        return
    images = image_set(pixels)
    rows = [figure for precision in PRECISIONS for figure in profiled(images, precision)]
    for precision in PRECISIONS:
        command = [sys.executable, __file__, "--data", arguments.data, "--compare", precision]
        rows += json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    config = recipe_model().train
    kind = "photographs" if arguments.data else "images of noise"
    write_figures(
        OUT,
        title="Training a VQ-VAE beside a plain loop",
        about=(
            "The model of cifar10-residual-vqvae-small with moving averages, one thread, "
            f"{len(pixels):,} {kind} of 32x32 in batches of {config.batch_size}. Parts of a step are medians "
            "over the epoch whose time is given, validation left out. The plain loop "
            "(benchmarks/plain_vqvae.py) has the same encoder, decoder, optimizer and precision, PyTorch's "
            "loader over images decoded one by one, and the textbook quantizer in float32; both loops step "
            f"in turn, medians of {N_STEPS - 1}, in a process of their own for each precision: what the "
            "textbook's large arrays cost depends on what a process allocated before. Seconds are the "
            "processor's, which other work changes less than the clock's and which are equal on a quiet "
            "machine; those of writing a checkpoint, median of 5, are the clock's."
        ),
        command="python benchmarks/vqvae_training.py --data cifar-bin:PATH",
        threads=1,
        rows=rows,
    )


def real_pixels(source: str) -> np.ndarray:
    """Training and validation images of a data source, uint8 (N, 3, 32, 32)."""
    splits = load(DataConfig(source))
    return np.concatenate(
        [
            to_bytes(part.images(rows))
            for part in (splits.train, splits.validation)
            for rows in chunks_of(part)
        ]
    )


def noise() -> np.ndarray:
    """Images uint8 (N, 3, 32, 32)."""
    generator = numpy_generator(0, "vqvae_training benchmark")
    return generator.integers(256, size=(N_IMAGES, *SHAPE), dtype=np.uint8)


def recipe_model() -> ModelConfig:
    """The model whose codebook learns by moving averages, as the recipe has it."""
    return cifar10_residual_vqvae_small.config().models["ema"]


def new_model(images: ImageSet) -> VQVAE:
    """That model, untrained."""
    params = {
        **recipe_model().spec.params,
        "normalization": [list(row) for row in channel_statistics(images)],
    }
    spec = Spec("vqvae", params)
    with seeded_weights(0, "vqvae_training benchmark"):
        model: VQVAE = build("model", spec, image_shape=SHAPE)
    return model


def profiled(images: ImageSet, precision: Precision) -> list[dict[str, Any]]:
    """An epoch of ``fit``: its time, and what a step of it spends on what."""
    model, stopwatch = new_model(images), Stopwatch()
    with stopwatch.attached(TIMED):
        steps, epoch = steps_of_fit(model, images, one_epoch(precision), stopwatch.lap)
    step = statistics.median(steps)
    parts = stopwatch.medians()
    parts[CHECKPOINTS] = step * checkpoint_seconds(model) / loop.CHECKPOINT_SECONDS
    together = sum(parts[part] for part in (DATA, LOGGING, CHECKPOINTS))
    return [
        row(f"{precision}: an epoch of {len(images):,} images", epoch, "s"),
        row("  images a second", len(images) / epoch, ""),
        row(f"{precision}: a step", 1e3 * step, "ms"),
        *(row(f"  {about}", 1e3 * parts[part], "ms") for part, about in ABOUT.items()),
        row("  anything else, copies of the buffers among it", 1e3 * (step - sum(parts.values())), "ms"),
        row("  data, logging and checkpoints together", 100 * together / step, "%", LARGEST_SHARE),
    ]


class Stopwatch:
    """Seconds that the parts of every step take."""

    def __init__(self) -> None:
        self.laps: list[dict[str, float]] = []
        self._now: dict[str, float] = defaultdict(float)
        self._nested: list[float] = []

    def on(self, part: str, function: Callable[..., Result]) -> Callable[..., Result]:
        """``function``, its time counted for ``part`` but for the time of others inside it."""

        @wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Result:
            self._nested.append(0.0)
            began = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.process_time() - began
                self._now[part] += spent - self._nested.pop()
                if self._nested:
                    self._nested[-1] += spent

        return counted

    @contextmanager
    def attached(self, calls: Sequence[Call]) -> Iterator[None]:
        """Count the calls inside the block."""
        with ExitStack() as patches:
            for part, owner, name in calls:
                patches.enter_context(patch.object(owner, name, self.on(part, getattr(owner, name))))
            yield

    def medians(self) -> dict[str, float]:
        """Seconds of every part in a step; the first, in which the codebook starts, is left out."""
        parts = dict.fromkeys(part for lap in self.laps for part in lap)
        return {part: statistics.median(lap[part] for lap in self.laps[1:]) for part in parts}

    def lap(self) -> None:
        """End a step."""
        self.laps.append(self._now)
        self._now = defaultdict(float)


def one_epoch(precision: Precision) -> TrainConfig:
    """The recipe's training, one epoch of it."""
    return replace(recipe_model().train, epochs=1, precision=precision)


def steps_of_fit(
    model: VQVAE, images: ImageSet, config: TrainConfig, between: Callable[[], None]
) -> tuple[list[float], float]:
    """Seconds of all steps of a training but the first, in which the codebook starts, and of all steps.

    ``between`` is called after every step, and its time not counted.
    """
    held_out = ImageSet(images.store, images.rows[: config.batch_size], None)
    steps: list[float] = []
    began = time.process_time()

    def after_step(done: int, total: int, message: str) -> None:
        nonlocal began
        steps.append(time.process_time() - began)
        between()
        began = time.process_time()

    fit(model, ImageSource(images), ImageSource(held_out), config, seed=0, progress=after_step)
    return steps[1:], sum(steps)


def checkpoint_seconds(model: VQVAE) -> float:
    """Seconds of writing a checkpoint."""
    optimizer = torch.optim.AdamW(model.parameters())
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()  # makes the moments
    state = TrainingState(best_epoch=0, best_value=0.0, best_weights=arrays_of(model))
    with tempfile.TemporaryDirectory() as folder:
        seconds, _ = timed(lambda: save_checkpoint(Path(folder), "", state, model, optimizer, None), 5)
    return seconds


def compared(pixels: np.ndarray, precision: Precision) -> list[dict[str, Any]]:
    """Steps of ``fit`` and of the plain loop in turn, and what both spend on data and on the quantizer."""
    images = image_set(pixels)
    batch_size = recipe_model().train.batch_size
    model, twin = new_model(images), new_model(images)
    plain = PlainLoop(
        twin.encoder,
        twin.decoder,
        TextbookVQ(twin.layer.codebook.shape[1], *twin.layer.n_codes),
        plain_loader(pixels),
        recipe_model().train.learning_rate,
        bfloat16=precision == "bfloat16",
    )
    stopwatch = Stopwatch()

    def plain_step() -> None:
        torch.use_deterministic_algorithms(False)  # what fit asks for, and plain loops do not
        stopwatch.on("plain step", plain.step)()
        torch.use_deterministic_algorithms(True)
        stopwatch.lap()

    some = ImageSet(images.store, images.rows[: N_STEPS * batch_size], None)
    with stopwatch.attached(TIMED_IN_BOTH):
        ours, _ = steps_of_fit(model, some, one_epoch(precision), plain_step)
    spent = stopwatch.medians()
    mine = statistics.median(ours)
    others = statistics.median(
        sum(lap[part] for part in ("plain step", "plain data", "plain quantizer")) for lap in stopwatch.laps
    )
    return [
        row(f"{precision}: a step, taken in turn with the plain loop's", 1e3 * mine, "ms"),
        row("  data", 1e3 * spent["data"], "ms"),
        row("  quantizer, forward", 1e3 * spent["quantizer"], "ms"),
        row(f"{precision}: a step of the plain loop", 1e3 * others, "ms"),
        row("  data", 1e3 * spent["plain data"], "ms"),
        row("  quantizer, forward", 1e3 * spent["plain quantizer"], "ms"),
        row(f"{precision}: times faster", others / mine, "", FACTOR),
    ]


def plain_loader(pixels: np.ndarray) -> DataLoader[Tensor]:
    """Shuffled batches of images decoded one by one."""
    decoded = DecodedImages(
        np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), channel_statistics(image_set(pixels))
    )
    return DataLoader(
        decoded,
        batch_size=recipe_model().train.batch_size,
        shuffle=True,
        num_workers=0,
        generator=torch_generator(0, "plain loader"),
    )


if __name__ == "__main__":
    main()

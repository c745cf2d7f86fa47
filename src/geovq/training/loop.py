"""The one training loop, on Lightning Fabric.

A trainable is any module with ``loss(batch, generator) -> {"total": ..., other terms}``, every term per row.
The loop minimises ``total``; everything random is keyed by (seed, purpose, step), so that a killed run goes
on from its checkpoint and ends with the same bytes.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from geovq.config import TrainConfig, to_json
from geovq.data import BatchOrder
from geovq.errors import InputError, TrainingError
from geovq.models.weights import arrays_of, load_arrays, weight_hashes
from geovq.seeding import deterministic, torch_generator
from geovq.storage.artifact import fingerprint
from geovq.training.averaging import WeightAverage
from geovq.training.checkpoint import Progress, TrainingState, load_checkpoint, save_checkpoint
from geovq.training.schedule import warmup_cosine
from geovq.training.sources import Source

logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)  # names the precision

PRECISIONS: dict[str, Any] = {"float32": "32-true", "bfloat16": "bf16-mixed"}  # Fabric's names

OnEpoch = Callable[[int, nn.Module], None]
"""Called as ``on_epoch(epoch, model)``."""

CHECKPOINT_SECONDS, LONGEST_PAUSE = 20, 300
"""At most so much work is lost when a run is killed: the former, or the latter where writing takes long."""

CHECKPOINT_COST = 0.4
"""Seconds that writing may take at the former pace. A larger model is written less often."""


@dataclass(frozen=True)
class TrainingResult:
    """What a finished training leaves behind, beside the model's best weights.

    ``log`` holds one row for each (epoch, split, name) with its value; ``epochs`` counts those really run.
    """

    log: list[dict[str, Any]]
    best_epoch: int
    epochs: int


def fit(
    model: nn.Module,
    train: Source,
    validation: Source,
    config: TrainConfig,
    *,
    seed: int,
    identity: str = "",
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    on_epoch: OnEpoch | None = None,
) -> TrainingResult:
    """Train ``model`` and leave it, in eval mode, with the weights of its best validation epoch.

    Epoch 0 is the model as it was given, so that training never leaves it worse on validation data. With
    ``config.ema_decay`` the weights validated, compared and left are those of the moving average.

    Parameters
    ----------
    model : a module with ``loss(batch, generator)``.
    train, validation : rows; validation chooses the epoch and is never trained on.
    seed : of the batch order and of every draw inside the loss.
    identity : what else makes this training the one it is (data, settings of the loss); with ``config``,
        ``seed`` and the initial weights it says whether a checkpoint is this training's.
    checkpoints : folder to keep the state in and to go on from; without it nothing is written.
    on_epoch : called as ``on_epoch(epoch, model)`` after the validation of every epoch, 0 included; ``model``
        is in eval mode, carries the weights that were validated, and must be left as it is. Every epoch is
        heard of at least once: a training that goes on from a checkpoint tells of the epochs after it alone,
        and so again of one that it had told of when it was killed before the next checkpoint, with the same
        weights. Files written under the epoch's name are therefore complete, and written anew at worst.

    Raises ``TrainingError`` naming step and term if the loss or its gradient is not finite; the update of
    that step has not been made.
    """
    device = next(model.parameters()).device
    run = _Run(model, train, validation, config, seed, identity, checkpoints, progress, on_epoch)
    with deterministic():
        result = run.to_the_end()
    model.to(device)  # Fabric may have moved it to an accelerator
    return result


class _Run:
    def __init__(
        self,
        model: nn.Module,
        train: Source,
        validation: Source,
        config: TrainConfig,
        seed: int,
        identity: str,
        checkpoints: Path | None,
        progress: Progress | None,
        on_epoch: OnEpoch | None,
    ) -> None:
        self.train, self.validation, self.config = train, validation, config
        self.seed, self.checkpoints, self.progress, self.on_epoch = seed, checkpoints, progress, on_epoch
        self.order = BatchOrder(len(train), config.batch_size, seed)
        self.n_steps = config.epochs * self.order.steps_per_epoch
        self.n_warmup = round(config.warmup_epochs * self.order.steps_per_epoch)
        self.fabric = Fabric(accelerator="auto", devices=1, precision=PRECISIONS[config.precision])
        self.optimizer = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        self.model = model
        self.wrapped, self.stepper = self.fabric.setup(model, self.optimizer)
        self.wrapped.mark_forward_method("loss")
        self.average = WeightAverage(model, config.ema_decay) if config.ema_decay else None
        self.fingerprint = fingerprint(
            {
                "train": to_json(config),
                "rows": [len(train), len(validation)],
                "seed": seed,
                "identity": identity,
                "start": weight_hashes(model),
            }
        )
        self.state = TrainingState()

    def to_the_end(self) -> TrainingResult:
        if self.checkpoints is not None:
            self.state = load_checkpoint(
                self.checkpoints, self.fingerprint, self.model, self.optimizer, self.average
            )
        if not self.state.log:
            self._validate_epoch(0)
        saved_at, pause = time.monotonic(), float(CHECKPOINT_SECONDS)
        while self.state.step < self.n_steps and not self._out_of_patience():
            self._step()
            if self.state.step % self.order.steps_per_epoch == 0:
                self._end_epoch()
            began = time.monotonic()
            if self.checkpoints is not None and began - saved_at > pause:
                save_checkpoint(
                    self.checkpoints, self.fingerprint, self.state, self.model, self.optimizer, self.average
                )
                saved_at = time.monotonic()
                slower = max(1.0, (saved_at - began) / CHECKPOINT_COST)
                pause = min(CHECKPOINT_SECONDS * slower, LONGEST_PAUSE)
        load_arrays(self.model, self.state.best_weights)
        self.model.eval()
        epochs = self.state.step // self.order.steps_per_epoch
        return TrainingResult(self.state.log, self.state.best_epoch, epochs)

    def _step(self) -> None:
        step = self.state.step
        indices = self.order.indices(step)
        batch = self._to_device(self.train.rows(indices))
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * warmup_cosine(step, self.n_steps, self.n_warmup)
        self.model.train()
        # A codebook of moving averages has already moved when its loss turns out not to be finite.
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        try:
            terms = self._gradient(batch)
        except TrainingError:
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)
            raise
        self.stepper.step()
        if self.average is not None:
            self.average.update(self.model, step)
        for name, value in terms.items():
            self.state.sums[name] = self.state.sums.get(name, 0.0) + value * len(indices)
        self.state.step += 1
        if self.progress is not None:
            self.progress(self.state.step, self.n_steps, f"loss {terms['total']:.4g}")

    def _gradient(self, batch: tuple[Tensor, ...]) -> dict[str, float]:
        """Terms of the loss, with the gradient of ``total`` left in the parameters; both are finite."""
        try:
            terms = self._loss(batch, torch_generator(self.seed, "loss", self.state.step))
        except InputError as error:  # a layer that was given latents it cannot quantize
            raise TrainingError(
                f"training stopped before the update of step {self.state.step}: {error}"
            ) from None
        self.stepper.zero_grad()
        self.fabric.backward(terms["total"])
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        if self.config.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), self.config.clip_norm, norm)
        *values, length = _numbers([*terms.values(), norm])
        numbers = dict(zip(terms, values, strict=True))
        self._refuse_non_finite(numbers, "")
        if not math.isfinite(length):
            raise TrainingError(self._explain("the gradient's norm", length))
        return numbers

    def _loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Mapping[str, Tensor]:
        # Fabric wraps forward in its precision, but no other method on a single device.
        with self.fabric.autocast():
            terms: Mapping[str, Tensor] = self.wrapped.loss(batch, generator)
        return terms

    def _refuse_non_finite(self, values: Mapping[str, float], where: str) -> None:
        # The total last: the part that broke it says more.
        for name in sorted(values, key=lambda name: name == "total"):
            if not math.isfinite(values[name]):
                raise TrainingError(self._explain(f"term '{name}'{where}", values[name]))

    def _explain(self, what: str, value: float) -> str:
        return (
            f"training stopped before the update of step {self.state.step}: {what} is {value}; expected a "
            f"finite number; lower learning_rate (now {self.config.learning_rate:g}) or look at the data"
        )

    def _end_epoch(self) -> None:
        epoch = self.state.step // self.order.steps_per_epoch
        self._log(epoch, "train", {name: total / len(self.train) for name, total in self.state.sums.items()})
        self.state.sums = {}
        self._validate_epoch(epoch)

    def _validate_epoch(self, epoch: int) -> None:
        with self.average.applied(self.model) if self.average else nullcontext():
            values = self._validate()
            self._refuse_non_finite(values, f" of the validation loss after epoch {epoch}")
            self._log(epoch, "validation", values)
            if values["total"] < self.state.best_value:
                self.state.best_value, self.state.best_epoch = values["total"], epoch
                self.state.best_weights = arrays_of(self.model)
            if self.on_epoch is not None:
                self.on_epoch(epoch, self.model)

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        self.model.eval()
        sums: dict[str, float] = {}
        in_order = torch.arange(len(self.validation)).split(self.config.batch_size)
        for number, indices in enumerate(in_order):
            batch = self._to_device(self.validation.rows(indices.numpy()))
            # The same noise at every epoch: epochs then differ by their weights alone.
            terms = self._loss(batch, torch_generator(self.seed, "validation loss", number))
            for name, value in zip(terms, _numbers([*terms.values()]), strict=True):
                sums[name] = sums.get(name, 0.0) + value * len(indices)
        return {name: total / len(self.validation) for name, total in sums.items()}

    def _log(self, epoch: int, split: str, values: Mapping[str, float]) -> None:
        for name, value in sorted(values.items()):
            self.state.log.append({"epoch": epoch, "split": split, "name": name, "value": value})

    def _out_of_patience(self) -> bool:
        patience, per_epoch = self.config.patience, self.order.steps_per_epoch
        if not patience or self.state.step % per_epoch:
            return False
        return self.state.step // per_epoch - self.state.best_epoch >= patience

    def _to_device(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(self.fabric.to_device(tensor) for tensor in batch)


def _numbers(values: Sequence[Tensor]) -> list[float]:
    """Single numbers, read together: an accelerator finishes all its work before each reading."""
    device = values[0].device
    joined: list[float] = torch.cat([value.detach().reshape(1).to(device) for value in values]).tolist()
    return joined

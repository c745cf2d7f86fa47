"""What a run is made of: data, models, arms, prior.

A configuration names components by ``Spec`` and imports none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from geovq.config.reading import check_choices
from geovq.errors import ConfigError


@dataclass(frozen=True)
class Spec:
    """A component by name: ``Spec("kmeans", {"n_codes": 256})``."""

    kind: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataConfig:
    """Which images: ``digits``, ``mnist``, ``fashion-mnist``, ``cifar10``, or files of one's own:
    ``idx:PATH``, ``cifar-bin:PATH``, ``npy:PATH``, ``folder:PATH``.

    ``image_size`` and ``channels`` (0: as they are) resize and convert a folder's images.
    """

    source: str
    image_size: int = 0
    channels: int = 0


@dataclass(frozen=True)
class TrainConfig:
    """One optimisation: AdamW with linear warm-up and cosine decay to zero.

    ``patience`` is the number of epochs without a better validation loss after which training stops
    (0: never). The weights kept are always those of the best validation epoch. ``precision`` of the networks;
    losses, quantizer layers, weights and moments are float32 either way.

    ``clip_norm`` (0: none) is the largest length that the gradient of all parameters together may have; a
    longer one is scaled down to it. For losses with rare spikes, which would throw the weights far off.
    Losses are sums over an image and their gradients long: a bound of 1 would cut nearly every one.

    ``ema_decay`` (0: none) validates and keeps a moving average of weights and codebooks in place of the
    weights themselves, which go on training (``geovq.training.averaging``). It averages over about
    ``1 / (1 - ema_decay)`` steps, but over the last ninth of all steps at most: decays above .98 are the same
    in trainings of under 450 steps, those above .998 in trainings of under 4,500. With a learning rate that
    falls to zero, as here, it brought nothing where it was tried (docs/vqvae.md).
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    warmup_epochs: float = 0.5
    patience: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    clip_norm: float = 0.0
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("epochs", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected a number above 0")
        for name in ("weight_decay", "warmup_epochs", "patience", "clip_norm"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 0 or more")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"ema_decay is {self.ema_decay}; expected at least 0 and below 1")


@dataclass(frozen=True)
class ModelConfig:
    """An autoencoder and how it is trained."""

    spec: Spec
    train: TrainConfig


@dataclass(frozen=True)
class TuneConfig(TrainConfig):
    """Fine-tuning what decodes an arm's codes.

    ``parts`` names what is trained: the ``decoder``, the ``decoder+codebook`` together, ``all`` (the encoder
    with these two, the codes found anew at every step), or a ``rectifier`` before a decoder that stays
    frozen. ``loss`` is the squared error or the binary cross-entropy of an image. With more than one of
    ``rounds``, of ``epochs`` each, the codes are found anew with the tuned codebook before every further
    round.
    """

    parts: Literal["decoder", "decoder+codebook", "all", "rectifier"] = "decoder"
    loss: Literal["mse", "bce"] = "mse"
    rounds: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rounds < 1:
            raise ConfigError(f"rounds is {self.rounds}; expected at least 1")
        if self.rounds > 1 and self.parts != "decoder+codebook":
            raise ConfigError(
                f"rounds is {self.rounds} with parts '{self.parts}'; codes are found anew with a tuned "
                "codebook alone; set parts to 'decoder+codebook' or rounds to 1"
            )


@dataclass(frozen=True)
class MapConfig:
    """The mean pull-back metric as a latent map, from the decoder at ``n_images`` training images.

    ``per``: the ``whole`` vector of a flat latent; for latent maps one metric ``shared`` by all sites, or one
    a ``site``. Eigenvalues are raised to ``floor`` times the largest.
    """

    per: Literal["whole", "shared", "site"] = "whole"
    n_images: int = 1000
    floor: float = 1e-2

    def __post_init__(self) -> None:
        check_choices(self)


@dataclass(frozen=True)
class AwareConfig:
    """Decoder-aware encoding: codes chosen again, slot by slot, by what the decoder makes of them.

    ``by`` decoding the ``n_candidates`` nearest codes against the ``image`` itself, or by the decoder's
    local pull-back ``metric``; ``sweeps`` passes over all slots.
    """

    by: Literal["image", "metric"] = "image"
    n_candidates: int = 4
    sweeps: int = 2

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("n_candidates", "sweeps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")


@dataclass(frozen=True)
class ArmConfig:
    """One method of a comparison.

    ``model`` names one of the run's models; ``tokens`` is the grid (height, width) into which its latent is
    cut; ``quantizer`` is fitted on the frozen latents, in the metric of ``latent_map`` if there is one. A
    model that has its own layer needs none of them, and a continuous model with none is the floor.

    ``tune`` adds an arm, ``NAME+tuned``, that decodes this arm's codes with fine-tuned parts. ``aware`` adds
    one whose encoding is decoder-aware: ``NAME+aware``, or ``NAME+tuned+aware`` if there is a tuned one.
    """

    name: str
    model: str
    tokens: tuple[int, int] | None = None
    quantizer: Spec | None = None
    latent_map: MapConfig | None = None
    tune: TuneConfig | None = None
    aware: AwareConfig | None = None


@dataclass(frozen=True)
class PriorConfig:
    """The autoregressive prior trained on the best post-hoc and on the best end-to-end arm."""

    spec: Spec
    train: TrainConfig


@dataclass(frozen=True)
class RunConfig:
    """A complete run: data, models, arms at one nominal rate, prior (or none), seeds."""

    recipe: str
    data: DataConfig
    bits: float
    models: Mapping[str, ModelConfig]
    arms: tuple[ArmConfig, ...]
    prior: PriorConfig | None
    seeds: tuple[int, ...] = (0,)

"""The arms of a run, and the checks that a configuration passes before any folder is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from geovq.config import ArmConfig, ModelConfig, RunConfig, Spec
from geovq.data import ImageSplits
from geovq.errors import ConfigError, unknown_name
from geovq.models.cut import token_dim
from geovq.models.model import AutoencoderModel
from geovq.registry import build, check, resolve
from geovq.seeding import seeded_weights

FLOOR, POST_HOC, END_TO_END = "floor", "post-hoc", "end-to-end"


@dataclass(frozen=True)
class Arm:
    """One arm of a run: an ``ArmConfig``, with or without its decoder tuned."""

    config: ArmConfig
    model: ModelConfig
    tuned: bool = False

    @property
    def name(self) -> str:
        """The arm's name, ``+tuned`` included."""
        return f"{self.config.name}+tuned" if self.tuned else self.config.name

    @cached_property
    def kind(self) -> str:
        """``floor``, ``post-hoc`` or ``end-to-end``."""
        if self.config.quantizer is not None:
            return POST_HOC
        return END_TO_END if has_layer(self.model.spec) else FLOOR

    @property
    def image_passes(self) -> int:
        """Epochs of training images through the network that this arm's result rests on."""
        tune = self.config.tune.epochs if self.tuned and self.config.tune else 0
        return self.model.train.epochs + tune


def has_layer(spec: Spec) -> bool:
    """Whether a model brings its own quantizer layer."""
    model: type[AutoencoderModel] = resolve("model", spec.kind)
    return model.end_to_end


def arms_of(config: RunConfig) -> list[Arm]:
    """All arms in order, each tuned one after the arm whose codes it uses."""
    arms = []
    for arm in config.arms:
        if arm.model not in config.models:
            raise ConfigError(unknown_name(f"model of arm '{arm.name}'", arm.model, config.models))
        model = config.models[arm.model]
        arms.append(Arm(arm, model))
        if arm.tune is not None:
            arms.append(Arm(arm, model, tuned=True))
    names = [arm.name for arm in arms]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two arms are called '{name}'; give each its own name")
    return arms


def check_run(config: RunConfig, splits: ImageSplits) -> None:
    """Refuse a run that could not be carried out, before anything is written.

    Raises ``ConfigError`` for an unknown component or parameter, an arm that misses the nominal rate, or a
    codebook with more codes than there are points to fit it on.
    """
    if not config.seeds or len(set(config.seeds)) < len(config.seeds):
        raise ConfigError(
            f"key 'seeds' is {list(config.seeds)}; expected different whole numbers, at least one"
        )
    check("prior", config.prior.spec, ("layout",))
    for name, model in config.models.items():
        check("model", model.spec, ("image_shape",))
        with seeded_weights(0, f"check {name}"):  # constructing finds what signatures cannot tell
            build("model", model.spec, image_shape=splits.image_shape)
    for arm in arms_of(config):
        _check_arm(arm, config, splits)


def _check_arm(arm: Arm, config: RunConfig, splits: ImageSplits) -> None:
    name, quantizer = arm.config.name, arm.config.quantizer
    if quantizer is not None and has_layer(arm.model.spec):
        raise ConfigError(f"arm '{name}': model '{arm.config.model}' has its own layer; leave out quantizer")
    if arm.kind == FLOOR:
        if arm.config.tune is not None:
            raise ConfigError(
                f"arm '{name}': without codes there is nothing to tune a decoder on; leave out tune"
            )
        return
    with seeded_weights(0, "check arm"):
        model = build("model", arm.model.spec, image_shape=splits.image_shape)
    grid = tokens_of(arm, model.tokens)
    n_tokens = grid[0] * grid[1]
    if quantizer is None:
        sizes = model.layer.n_codes
    else:
        check("quantizer", quantizer, ("random_state",))
        token_dim(model.latent_shape, grid)
        sizes = build("quantizer", quantizer, random_state=0).code_sizes
        n_points = len(splits.train) * n_tokens
        if max(sizes) > n_points:
            raise ConfigError(
                f"arm '{name}': {max(sizes)} codes for {n_points} points ({len(splits.train)} images of "
                f"{n_tokens} tokens); expected no more codes than points; lower n_codes"
            )
    bits = n_tokens * sum(math.log2(size) for size in sizes)
    if abs(bits - config.bits) > 1e-6:
        raise ConfigError(
            f"arm '{name}': {n_tokens} tokens with alphabets {list(sizes)} are {bits:g} bits an image; this "
            f"run compares at {config.bits}; change tokens, n_codes or levels"
        )


def tokens_of(arm: Arm, own: tuple[int, int] | None) -> tuple[int, int]:
    """The token grid of an arm: its own ``tokens``, or those of its model (``own``)."""
    if own is not None:
        if arm.config.tokens is not None and arm.config.tokens != own:
            raise ConfigError(
                f"arm '{arm.name}': tokens are {arm.config.tokens}, its model's {own}; leave them out"
            )
        return own
    if arm.config.tokens is None:
        raise ConfigError(f"arm '{arm.name}': key 'tokens' is missing; expected a grid such as [2, 4]")
    return arm.config.tokens

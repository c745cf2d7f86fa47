"""The arms of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from geovq.config import ArmConfig, ModelConfig, RunConfig, Spec
from geovq.errors import ConfigError, unknown_name
from geovq.models.model import AutoencoderModel
from geovq.registry import resolve

FLOOR, POST_HOC, END_TO_END = "floor", "post-hoc", "end-to-end"


@dataclass(frozen=True)
class Arm:
    """One arm of a run: an ``ArmConfig``, with or without its tuned parts and its decoder-aware encoding."""

    config: ArmConfig
    model: ModelConfig
    tuned: bool = False
    aware: bool = False

    @property
    def name(self) -> str:
        """The arm's name, ``+tuned`` and ``+aware`` included."""
        return self.config.name + "+tuned" * self.tuned + "+aware" * self.aware

    @property
    def plain(self) -> Arm:
        """The arm as it is fitted or trained, neither tuned nor aware."""
        return replace(self, tuned=False, aware=False)

    @cached_property
    def kind(self) -> str:
        """``floor``, ``post-hoc`` or ``end-to-end``."""
        if self.config.quantizer is not None:
            return POST_HOC
        return END_TO_END if has_layer(self.model.spec) else FLOOR


def has_layer(spec: Spec) -> bool:
    """Whether a model brings its own quantizer layer."""
    model: type[AutoencoderModel] = resolve("model", spec.kind)
    return model.end_to_end


def arms_of(config: RunConfig) -> list[Arm]:
    """All arms in order, each tuned or aware one after the arm that it comes from."""
    arms = []
    for arm in config.arms:
        if arm.model not in config.models:
            raise ConfigError(unknown_name(f"model of arm '{arm.name}'", arm.model, config.models))
        model = config.models[arm.model]
        arms.append(Arm(arm, model))
        if arm.tune is not None:
            arms.append(Arm(arm, model, tuned=True))
        if arm.aware is not None:
            arms.append(Arm(arm, model, tuned=arm.tune is not None, aware=True))
    names = [arm.name for arm in arms]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two arms are called '{name}'; give each its own name")
    return arms


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

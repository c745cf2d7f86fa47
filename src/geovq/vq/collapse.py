"""Why a codebook collapsed, as far as the statistics of its training tell, and what to change.

The statistics are those of ``geovq.vq.watch`` by epoch. They are symptoms: a cause named here is the likely
one, not a proven one. The remedies are those that published layers use against it (van den Oord et al. 2017;
Zeghidour et al. 2021, section III.C; Yu et al. 2021, "Vector-quantized Image Modeling with Improved VQGAN",
on few dimensions).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from geovq.vq.codebook_layer import CodebookLayer

LAST_EPOCHS = 3  # averaged: a single epoch of few batches is noisy
FEWEST_USED = 0.5  # of the codes that batches of that size use on average if all are equally likely
LEAST_PERPLEXITY = 0.1  # of the same; real latents use codes unevenly, healthy layers keep 0.3 to 0.9
SCALE_APART = 3.0  # codes this much longer or shorter than the latents: only the nearest few are ever chosen
MANY_DIMENSIONS = 32  # published low-dimensional codebooks have 8 to 32
FEW_INFORMATIVE = 0.1  # of the dimensions; in the others random codes differ from one another, latents not
LEAST_COMMITMENT = 0.1  # from it to 2 results did not vary (van den Oord et al. 2017, section 3.2)
SHRUNK = 0.9  # of the norm before training; at a weight that suits, latents keep theirs or grow
QUIET_DRIFT = 0.25  # standard deviations a step, in every epoch; a learning rate too high moves them by more
LARGEST_DRIFT = 1.0  # standard deviations a step; at most 0.65 in the first epoch of trainings that go well
HARDLY_ANY_ERROR = 0.01  # of the latents' variance: the encoder gives as few vectors as codes are in use
MOSTLY_ERROR = 0.5  # of the latents' variance: the latents have left their codes


@dataclass(frozen=True)
class LayerSettings:
    """What a layer was told; None where it cannot be told.

    Attributes
    ----------
    dim : vector length d.
    n_codes : codebook size K.
    start : ``kmeans`` or ``random``.
    revival : use below which a code is revived; 0 never.
    commitment : weight of the commitment loss.
    learning_rate : of the model around the layer.
    """

    dim: int
    n_codes: int
    start: str | None = None
    revival: float | None = None
    commitment: float | None = None
    learning_rate: float | None = None


@dataclass(frozen=True)
class Diagnosis:
    """A collapsed codebook.

    Attributes
    ----------
    cause : the likely one: a name in ``RULES``.
    evidence : the numbers that point to it.
    remedy : the change to try first.
    utilization : codes used in a batch, of those that even use would use; mean over the last epochs. Of
        several levels or groups, that of the lowest.
    perplexity : of a batch, of the same.
    of_a_level : whether that is one of several levels or groups; the others may be healthy.
    """

    cause: str
    evidence: str
    remedy: str
    utilization: float
    perplexity: float
    of_a_level: bool = False

    @property
    def sentence(self) -> str:
        """All of it in two sentences."""
        whose = " of at least one level" if self.of_a_level else ""
        return (
            f"the codebook{whose} collapsed: a batch uses {_percent(self.utilization)} of the codes that "
            f"even use would, with {_percent(self.perplexity)} of its perplexity. Likely cause: {self.cause} "
            f"({self.evidence}); try {self.remedy}"
        )


def settings_of(layer: nn.Module, learning_rate: float | None = None) -> LayerSettings | None:
    """The settings of a layer, or of its first level or group; None if it has no table of codes to learn."""
    found = next((part for part in layer.modules() if isinstance(part, CodebookLayer)), None)
    if found is None:
        return None
    taken = inspect.signature(type(found)).parameters
    told = {name: getattr(found, name) for name in ("start", "revival", "commitment") if name in taken}
    return LayerSettings(found.dim, found.n_codes[0], learning_rate=learning_rate, **told)


def diagnose(log: Sequence[Mapping[str, Any]], settings: LayerSettings) -> Diagnosis | None:
    """The likely cause of a collapse, or None: no collapse at the end of this training.

    Parameters
    ----------
    log : rows of ``epoch``, ``split``, ``name`` and ``value``, as ``TrainingResult.log`` holds them, with the
        layer's ``stats`` among the names. Collapse is judged on the validation split, the training split if
        there is none; epoch 0 is the model before training.
    settings : of the layer, ``settings_of(layer, learning_rate)``.
    """
    curves = _Curves(log)
    n, used, perplexity = (curves.late(f"batch_{name}") for name in ("vectors", "utilization", "perplexity"))
    lowest = [curves.late(f"lowest_level_{name}") for name in ("utilization", "perplexity")]
    # A mean over levels hides the dead ones behind those that carry on.
    used, perplexity = (
        low if low is not None else mean for low, mean in zip(lowest, (used, perplexity), strict=True)
    )
    if used is None or perplexity is None or n is None:
        return None
    # Codes that n vectors use on average if each falls on any of the K with equal chance.
    even_use = 1 - (1 - 1 / settings.n_codes) ** n
    utilization, evenness = used / even_use, perplexity / (settings.n_codes * even_use)
    if utilization >= FEWEST_USED and evenness >= LEAST_PERPLEXITY:
        return None
    for rule in RULES:
        evidence = rule.shown_by(curves, settings)
        if evidence:
            of_a_level = lowest != [None, None]
            return Diagnosis(rule.cause, evidence, rule.remedy(settings), utilization, evenness, of_a_level)
    raise AssertionError("the last rule holds always")


class _Curves:
    """Values by epoch of every statistic, validation before training."""

    def __init__(self, log: Sequence[Mapping[str, Any]]) -> None:
        self._curves: dict[tuple[str, str], dict[float, float]] = {}
        for row in log:
            self._curves.setdefault((row["split"], row["name"]), {})[row["epoch"]] = row["value"]

    def late(self, name: str) -> float | None:
        """The mean over the last epochs."""
        for split in ("validation", "train"):
            values = [value for epoch, value in self._sorted(split, name) if epoch > 0][-LAST_EPOCHS:]
            if values:
                return sum(values) / len(values)
        return None

    def first(self, name: str) -> float | None:
        """The value before training, or the earliest there is."""
        for split in ("validation", "train"):
            values = self._sorted(split, name)
            if values:
                return values[0][1]
        return None

    def largest(self, name: str) -> float:
        """The largest mean over a training epoch, 0 if there is none."""
        return max((value for _, value in self._sorted("train", name)), default=0.0)

    def _sorted(self, split: str, name: str) -> list[tuple[float, float]]:
        return sorted(self._curves.get((split, name), {}).items())


def _never_revived(curves: _Curves, settings: LayerSettings) -> bool:
    return not settings.revival or curves.largest("revived") == 0


def _many_dimensions(curves: _Curves, settings: LayerSettings) -> str:
    informative = curves.late("latent_dimensions")
    if settings.start != "random" or not _never_revived(curves, settings) or informative is None:
        return ""
    if settings.dim < MANY_DIMENSIONS or informative > FEW_INFORMATIVE * settings.dim:
        return ""
    return f"latents vary in about {informative:.1f} of {settings.dim} dimensions, random codes in all"


def _initial_scale(curves: _Curves, settings: LayerSettings) -> str:
    codes, latents = curves.first("code_norm"), curves.first("latent_norm")
    if settings.start != "random" or not _never_revived(curves, settings) or not codes or not latents:
        return ""
    if 1 / SCALE_APART < codes / latents < SCALE_APART:
        return ""
    return f"at the start the codes chosen have norm {codes:.3g}, the latents {latents:.3g}"


def _commitment(curves: _Curves, settings: LayerSettings) -> str:
    weight, error = settings.commitment, curves.late("relative_distortion")
    if weight is None or error is None:
        return ""
    if weight < LEAST_COMMITMENT:
        if error <= MOSTLY_ERROR:
            return ""
        return f"at weight {weight:g} the latents have left their codes, error {error:.2g} of their variance"
    before, after = curves.first("latent_norm"), curves.late("latent_norm")
    if error >= HARDLY_ANY_ERROR or curves.largest("encoder_drift") > QUIET_DRIFT or not before or not after:
        return ""
    # What weight is too heavy depends on the model's loss; latents drawn together and held there show it.
    if after > SHRUNK * before:
        return ""
    return (
        f"at weight {weight:g} the latents shrank onto their codes, from norm {before:.3g} to {after:.3g}, "
        f"error {error:.2g} of their variance"
    )


def _learning_rate(curves: _Curves, settings: LayerSettings) -> str:
    drift, error = curves.largest("encoder_drift"), curves.late("relative_distortion")
    if drift > LARGEST_DRIFT:
        return f"the latents' mean moved by {drift:.2g} standard deviations a step"
    if error is not None and error < HARDLY_ANY_ERROR:
        return f"the encoder gives hardly more vectors than codes in use, error {error:.2g} of their variance"
    return ""


def _no_revival(curves: _Curves, settings: LayerSettings) -> str:
    if settings.revival is None or not _never_revived(curves, settings):
        return ""
    return "revival is 0" if settings.revival == 0 else "revival is on, but never came to revive a code"


def _other_commitment(settings: LayerSettings) -> str:
    weight = settings.commitment
    if weight is None or weight < LEAST_COMMITMENT:
        return "commitment=0.25"
    return f"a tenth of the weight, commitment={weight / 10:g}"


def _smaller_rate(settings: LayerSettings) -> str:
    rate = settings.learning_rate
    return "a tenth of the learning rate" + (f", {rate / 10:g}" if rate else "")


def _revival(settings: LayerSettings) -> str:
    if settings.revival == 0:
        return "revival=0.03"
    return "decay=0.9, or more steps: dead codes are known by a moving average"


@dataclass(frozen=True)
class Rule:
    """A cause, the numbers that show it (empty: they do not), and the change to try."""

    cause: str
    shown_by: Callable[[_Curves, LayerSettings], str]
    remedy: Callable[[LayerSettings], str]


# The first that shows is named: what was wrong at the start, then in training, then what would mend it.
RULES = (
    Rule("dimension", _many_dimensions, lambda _: "dim=8, by a linear map before it, or start='kmeans'"),
    Rule("initial scale", _initial_scale, lambda _: "start='kmeans'"),
    Rule("commitment weight", _commitment, _other_commitment),
    Rule("learning rate", _learning_rate, _smaller_rate),
    Rule("revival missing", _no_revival, _revival),
    Rule("unclear", lambda *_: "no known cause shows", lambda _: "fewer codes, or an entropy penalty"),
)


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"

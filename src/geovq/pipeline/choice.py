"""Choosing settings of a run by validation images: beta, layout, depth, codebook size.

What is chosen here cannot depend on test images: no error of theirs is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geovq.config import ArmConfig, RunConfig, Spec, with_overrides
from geovq.data import chunks_of, load
from geovq.errors import ConfigError
from geovq.pipeline.arms import FLOOR, Arm
from geovq.pipeline.autoencoders import load_latents, trained_autoencoder
from geovq.pipeline.checks import check_run
from geovq.pipeline.context import Context
from geovq.pipeline.run import run_recipe
from geovq.pipeline.stages import Stages, Tell
from geovq.pipeline.tokenizers import codes_of, load_tokenizer
from geovq.storage.artifact import read_json
from geovq.tokenizer import Autoencoder

# Codebooks worth trying: fewer codes need many tokens, more have few points each.
SMALLEST, LARGEST = 16, 1024


@dataclass(frozen=True)
class Choice:
    """One variant of a run, and what it reached.

    Attributes
    ----------
    name : of the variant
    errors : validation MSE of every arm, one value a seed
    """

    name: str
    errors: Mapping[str, tuple[float, ...]]

    def mse(self, arm: str) -> float:
        """Validation MSE of an arm, averaged over seeds."""
        return float(np.mean(self.errors[arm]))


def try_variants(
    config: RunConfig,
    variants: Mapping[str, Sequence[str]],
    out: Path,
    *,
    reuse: Sequence[Path] = (),
    tell: Tell = lambda line: None,
) -> list[Choice]:
    """Run every variant as far as its codes, and measure all its arms on validation images.

    Parameters
    ----------
    config : what the variants change.
    variants : name -> assignments as for ``--set``, such as ``["models.vae.spec.params.beta=0.05"]``.
    out : a folder for each variant is made in it; a variant that is there goes on, and all use each other's
        stages where these are equal.
    reuse : folders of further runs to take equal stages from.

    Raises ``ConfigError`` that names the variant, before anything is run, if one could not be carried out.
    """
    configs = {}
    for name, changes in variants.items():
        try:
            configs[name] = with_overrides(config, list(changes))
            check_run(configs[name], load(configs[name].data))
        except ConfigError as error:
            raise ConfigError(f"variant '{name}': {error}") from None
    choices, earlier = [], [*reuse]
    for name, variant in configs.items():
        tell(f"variant {name}")
        folder = run_recipe(variant, out / name, reuse=earlier, stop_after="tokenizers", tell=tell)
        earlier.append(folder)
        choices.append(Choice(name, validation_errors(variant, folder)))
    return choices


def best(choices: Sequence[Choice], arm: str) -> Choice:
    """The variant in which ``arm`` has the lowest validation error; the first of equals."""
    if not choices or any(arm not in choice.errors for choice in choices):
        known = sorted({name for choice in choices for name in choice.errors})
        raise ConfigError(f"arm '{arm}' was not measured in every variant; expected one of {known}")
    return min(choices, key=lambda choice: choice.mse(arm))


def coding_arms(bits: int, latent_dim: int, model: str) -> tuple[ArmConfig, ...]:
    """Codes of equal size, 16 to 1,024, that spend ``bits`` on a flat latent, as arms of one run.

    T chunks with one k-means codebook for all (``kmeans-TxK``), T groups with a codebook each
    (``product-TxK``), or L residual levels of the whole latent (``residual-LxK``), with K from 16 to 1,024.
    Raises ``ConfigError`` if no such K gives exactly that many bits.
    """
    arms = []
    for n_parts in range(1, bits + 1):
        if bits % n_parts or not SMALLEST <= 2 ** (bits // n_parts) <= LARGEST:
            continue
        codes = {"n_codes": 2 ** (bits // n_parts)}
        name = f"{n_parts}x{codes['n_codes']}"
        if latent_dim % n_parts == 0:
            arms.append(ArmConfig(f"kmeans-{name}", model, (1, n_parts), Spec("kmeans", codes)))
        if n_parts <= latent_dim:
            product = Spec("product", {**codes, "n_groups": n_parts})
            arms.append(ArmConfig(f"product-{name}", model, (1, 1), product))
        residual = Spec("residual", {**codes, "n_levels": n_parts, "beam": 16})
        arms.append(ArmConfig(f"residual-{name}", model, (1, 1), residual))
    if not arms:
        raise ConfigError(
            f"{bits} bits cannot be split into equal codes of {SMALLEST} to {LARGEST}; expected a number of "
            "bits with a divisor that leaves 4 to 10 bits a code"
        )
    return tuple(arms)


def validation_errors(config: RunConfig, folder: Path) -> dict[str, tuple[float, ...]]:
    """Validation MSE of every arm of a run that has its codes, one value a seed."""
    environment = read_json(folder / "environment.json")
    run = Context(config, load(config.data), Stages(folder, [], lambda line: None), environment)
    return {arm.name: tuple(_validation_mse(run, arm, seed) for seed in config.seeds) for arm in run.arms}


def _validation_mse(run: Context, arm: Arm, seed: int) -> float:
    images = run.splits.validation
    decode: Callable[[np.ndarray], np.ndarray]
    if arm.kind == FLOOR:
        model = trained_autoencoder(run, arm.config.model, seed)
        floor = Autoencoder(model.encoder, model.decoder, run.splits.image_shape)
        decode, inputs = floor.decode_latents, load_latents(run, arm.config.model, seed)["validation.mean"]
    else:
        tokenizer = load_tokenizer(run, arm, seed)
        decode, inputs = tokenizer.decode, codes_of(run, arm, seed).splits["validation"]
    squares = [
        np.square(decode(inputs[rows]) - images.images(rows), dtype=np.float64) for rows in chunks_of(images)
    ]
    return float(sum(part.sum() for part in squares) / sum(part.size for part in squares))

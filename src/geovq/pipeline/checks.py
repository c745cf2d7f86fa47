"""The checks that a run passes before any folder is made: what could fail after hours should fail now."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from geovq.config import ArmConfig, MapConfig, ModelConfig, RunConfig, Spec, TuneConfig
from geovq.data import ImageSplits
from geovq.errors import ConfigError, InputError
from geovq.evaluation.likelihood import is_eight_bit
from geovq.models.cut import cut, token_dim
from geovq.models.model import AutoencoderModel, ImageModel
from geovq.pipeline.arms import FLOOR, Arm, arms_of, has_layer, tokens_of
from geovq.pipeline.autoencoders import with_normalization
from geovq.pipeline.decoder_lengths import METRIC_IMAGES, measure_with
from geovq.registry import build, check
from geovq.seeding import numpy_generator, seeded_weights, torch_generator
from geovq.tokenizer.hierarchical import layout_of_grids
from geovq.tokenizer.layout import CodeGrid, CodeLayout

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
PROBES = 64


def check_run(config: RunConfig, splits: ImageSplits) -> None:
    """Refuse a run that could not be carried out.

    Every model takes a first batch, every quantizer is fitted on a few random points, the prior is built on
    every layout. Raises ``ConfigError`` that names the arm or model: an unknown component, a parameter that
    it does not take, an arm that misses the nominal rate, more codes than points to fit them on.
    """
    if not config.seeds or len(set(config.seeds)) < len(config.seeds):
        raise ConfigError(
            f"key 'seeds' is {list(config.seeds)}; expected different whole numbers, at least one"
        )
    arms = arms_of(config)
    if not arms:
        raise ConfigError("key 'arms' is empty; expected at least one arm")
    check_names([config.recipe, *config.models, *(arm.name for arm in arms if arm == arm.plain)])
    models = {}
    for name, model in config.models.items():
        with _naming(f"model '{name}'"):
            models[name] = _first_batch(model, splits)
    for arm in arms:
        if arm == arm.plain:
            with _naming(f"arm '{arm.name}'"):
                _check_arm(arm, models[arm.config.model], config, splits)


def check_names(names: Sequence[str]) -> None:
    """Refuse names that cannot be a folder's. Raises ``ConfigError``."""
    for name in names:
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"name '{name}' cannot be a folder's; expected letters, digits, '_', '.', '+' and '-'"
            )


@contextmanager
def _naming(what: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise ConfigError(f"{what}: {error}") from None


def _first_batch(model: ModelConfig, splits: ImageSplits) -> ImageModel:
    check("model", model.spec, ("image_shape",))
    with seeded_weights(0, "check"):
        spec = with_normalization(model.spec, splits)
        built: ImageModel = build("model", spec, image_shape=splits.image_shape)
    first = replace(splits.train, rows=splits.train.rows[: model.train.batch_size], labels=None)
    if built.error.kind == "logistic" and not is_eight_bit(first):
        raise ConfigError(
            f"reconstruction is 'logistic', and images of {splits.name} are not 8-bit; expected intensities "
            "that are multiples of 1/255; set reconstruction to 'mse' or 'bce'"
        )
    images = torch.from_numpy(first.images(slice(None)))
    with torch.no_grad():
        built.loss((images,), torch_generator(0, "check"))
    return built


def _check_arm(arm: Arm, model: ImageModel, config: RunConfig, splits: ImageSplits) -> None:
    quantizer = arm.config.quantizer
    if quantizer is not None and has_layer(arm.model.spec):
        raise ConfigError(f"its model '{arm.config.model}' has its own layer; leave out quantizer")
    if arm.kind == FLOOR:
        for name in ("tokens", "tune", "aware", "latent_map"):
            if getattr(arm.config, name) is not None:
                raise ConfigError(f"without codes there is nothing that '{name}' could do; leave it out")
        return
    if isinstance(model, AutoencoderModel):
        layout = _check_latent_arm(arm, model, splits)
    else:
        layout = _check_hierarchical_arm(arm, model)
    if abs(layout.bits - config.bits) > 1e-6:
        grids = ", ".join(
            f"{grid.height}x{grid.width} tokens with alphabets {list(grid.n_codes)}" for grid in layout.grids
        )
        raise ConfigError(
            f"{grids} are {layout.bits:g} bits an image; this run compares at {config.bits:g}; change "
            f"tokens, n_codes or levels, or compare at another rate with --set bits={layout.bits:g}"
        )
    _check_suffixes(arm.config)
    if config.prior is not None:
        _try_prior(config.prior.spec, layout)


def _check_hierarchical_arm(arm: Arm, model: ImageModel) -> CodeLayout:
    for name in ("tokens", "tune", "aware", "latent_map"):
        if getattr(arm.config, name) is not None:
            raise ConfigError(
                f"'{name}' is set, and its model '{arm.config.model}' is hierarchical; expected a model of "
                "one latent, such as a vqvae; leave it out"
            )
    return layout_of_grids(model.grids)


def _check_latent_arm(arm: Arm, model: AutoencoderModel, splits: ImageSplits) -> CodeLayout:
    quantizer = arm.config.quantizer
    grid = tokens_of(arm, model.tokens)
    n_tokens = grid[0] * grid[1]
    if quantizer is not None:
        sizes, takes_metric = _try_quantizer(arm.config, model, grid)
        n_images = min(len(splits.train), METRIC_IMAGES) if takes_metric else len(splits.train)
        n_points = n_images * n_tokens
        if max(sizes) > n_points:
            raise ConfigError(
                f"{max(sizes)} codes for {n_points} points ({n_images} images of {n_tokens} "
                "tokens); expected no more codes than points; lower n_codes"
            )
    else:
        if arm.config.latent_map is not None:
            raise ConfigError("its layer was trained in the latent as it is; leave out latent_map")
        assert model.layer is not None
        sizes = model.layer.n_codes
        if arm.config.tune is not None and len(set(sizes)) > 1:
            _check_codes_anew(arm.config.tune, f"levels of its layer have sizes {list(sizes)}")
    return CodeLayout((CodeGrid("latent", *grid, n_codes=sizes),))


def _check_suffixes(arm: ArmConfig) -> None:
    """Reports tell by an arm's name what was done to it."""
    suffixes = arm.name.split("+")[1:]
    for suffix in ("tuned", "aware"):
        if suffix in suffixes:
            raise ConfigError(f"'+{suffix}' is added to the name where there is such an arm; leave it out")
    if ("metric" in suffixes) != (arm.latent_map is not None):
        raise ConfigError(
            f"latent_map is {'not set' if arm.latent_map is None else 'set'}; expected a name with '+metric' "
            "where it is set, and there alone"
        )


def _try_quantizer(
    arm: ArmConfig, model: AutoencoderModel, grid: tuple[int, int]
) -> tuple[tuple[int, ...], bool]:
    """Alphabet sizes of an arm's quantizer whose parameters are all in order; whether it takes a metric."""
    spec = arm.quantizer
    assert spec is not None
    check("quantizer", spec, ("random_state",))
    quantizer = build("quantizer", spec, random_state=0)
    sizes: tuple[int, ...] = quantizer.planned_sizes(token_dim(model.latent_shape, grid))
    if not sizes or min(sizes) < 1:
        raise ConfigError(f"quantizer '{spec.kind}' has alphabets {list(sizes)}; expected at least one code")
    # Few codes on few points: parameters are looked at only by fit.
    shape = (-(-PROBES // (grid[0] * grid[1])), *model.latent_shape)
    latents = numpy_generator(0, "check").normal(size=shape).astype(np.float32)
    measure_with(quantizer, model.decoder, latents)
    points = cut(torch.from_numpy(latents), grid).flatten(0, 1).numpy()
    sigma = np.ones_like(points) if quantizer.takes_sigma else None
    fitted = quantizer.set_params(n_codes=min(2, sizes[0])).fit(points, sigma=sigma).as_module()
    follows_decoder = quantizer.takes_metric or fitted.follows_decoder
    if arm.tune is not None and follows_decoder and arm.tune.parts != "rectifier":
        raise ConfigError(
            f"codes of quantizer '{spec.kind}' depend on the decoder and would change with it; leave "
            "out tune, or set its parts to 'rectifier'"
        )
    if arm.tune is not None and arm.tune.parts == "all" and fitted.uses_sigma:
        raise ConfigError(
            f"codes of quantizer '{spec.kind}' are found with sigma, which tuning all parts leaves behind; "
            "set the parts of tune to 'decoder+codebook'"
        )
    # How a list shares its bits among several levels is known only once it is fitted on all the points.
    if arm.tune is not None and isinstance(fitted.codebook, list) and len(sizes) > 1:
        _check_codes_anew(arm.tune, f"levels of quantizer '{spec.kind}' may have different sizes")
    if arm.latent_map is not None:
        _check_map(arm.latent_map, model)
    return sizes, quantizer.takes_metric


def _check_codes_anew(tune: TuneConfig, levels: str) -> None:
    """Refuse a tuning that finds codes anew; ``levels`` says how they are not of one size."""
    if tune.parts != "all" and tune.rounds == 1:
        return
    remedy = "parts of tune to 'decoder+codebook'" if tune.parts == "all" else "rounds of tune to 1"
    raise ConfigError(f"{levels}, and codes are found anew in levels of one size alone; set the {remedy}")


def _check_map(config: MapConfig, model: AutoencoderModel) -> None:
    flat = len(model.latent_shape) == 1
    if flat != (config.per == "whole"):
        expected = "'whole'" if flat else "'shared' or 'site'"
        raise ConfigError(
            f"key 'latent_map.per' is '{config.per}' for latents of shape {model.latent_shape}; "
            f"expected {expected}"
        )
    if config.n_images < 1 or not 0 < config.floor <= 1:
        raise ConfigError(
            f"latent_map has n_images {config.n_images} and floor {config.floor:g}; expected at least 1 "
            "image and a floor above 0 and up to 1"
        )


def _try_prior(spec: Spec, layout: CodeLayout) -> None:
    check("prior", spec, ("layout",))
    prior = build("prior", spec, layout=layout)
    if prior.n_classes:
        raise ConfigError(f"prior '{spec.kind}' has n_classes {prior.n_classes}; runs train without labels")

"""Names of components: ``kind -> "module:Class"``, resolved only when used.

Adding a quantizer, layer, model or prior costs one file and one line here.
"""

from __future__ import annotations

import inspect
import typing
from importlib import import_module
from typing import Any

from geovq.config import Spec, from_json
from geovq.errors import ConfigError, unknown_name

FAMILIES: dict[str, dict[str, str]] = {
    "model": {
        "vae": "geovq.models.vae:VAE",
        "vqvae": "geovq.models.vqvae:VQVAE",
        "vqvae2": "geovq.models.vqvae2:VQVAE2",
    },
    "layer": {
        "vq": "geovq.vq.vq:StraightThroughVQ",
        "ema": "geovq.vq.ema:EMAVQ",
        "rotation": "geovq.vq.rotation:RotationVQ",
        "simvq": "geovq.vq.simvq:SimVQ",
        "cosine": "geovq.vq.cosine:CosineVQ",
        "diveq": "geovq.vq.diveq:DiVeQ",
        "optvq": "geovq.vq.optvq:OptVQ",
        "gumbel": "geovq.vq.gumbel:GumbelVQ",
        "manual": "geovq.vq.manual:ManualStraightThroughVQ",
        "fsq": "geovq.vq.fsq:FSQ",
        "lfq": "geovq.vq.lfq:LFQ",
        "bsq": "geovq.vq.bsq:BSQ",
        "residual": "geovq.vq.residual:ResidualVQ",
        "product": "geovq.vq.product:ProductVQ",
    },
    "quantizer": {
        "kmeans": "geovq.quantizers.kmeans:KMeansQuantizer",
        "kmedoids": "geovq.quantizers.kmedoids:KMedoidsQuantizer",
        "gaussian": "geovq.quantizers.gaussian:GaussianQuantizer",
        "geodesic": "geovq.quantizers.geodesic:GeodesicQuantizer",
        "landmark-geodesic": "geovq.quantizers.landmarks:LandmarkGeodesicQuantizer",
        "pullback": "geovq.quantizers.pullback:PullbackQuantizer",
        "scalar": "geovq.quantizers.scalar:ScalarQuantizer",
        "tokenbridge": "geovq.quantizers.tokenbridge:TokenBridgeQuantizer",
        "product": "geovq.quantizers.product:ProductQuantizer",
        "optimized-product": "geovq.quantizers.optimized_product:OptimizedProductQuantizer",
        "residual": "geovq.quantizers.residual:ResidualQuantizer",
        "gaussian-quant": "geovq.quantizers.gaussian_quant:GaussianQuant",
        "decoded-kmeans": "geovq.quantizers.decoded_kmeans:DecodedKMeansQuantizer",
    },
    "prior": {
        "uniform": "geovq.priors.uniform:UniformPrior",
        "unigram": "geovq.priors.unigram:UnigramPrior",
        "transformer": "geovq.priors.transformer:TransformerPrior",
    },
    "linear-method": {
        "pca-lloyd": "geovq.linear.pca_lloyd:train",
        "pca-lloyd-converged": "geovq.linear.pca_lloyd_converged:train",
        "ste-autograd": "geovq.linear.ste_autograd:train",
        "ste-manual": "geovq.linear.ste_manual:train",
        "rotation": "geovq.linear.rotation:train",
    },
}


def register(family: str, kind: str, target: str) -> None:
    """Add a component under ``family``; ``target`` is ``"module:Class"``."""
    FAMILIES[family][kind] = target


def resolve(family: str, kind: str) -> Any:
    """The class or function behind ``kind``; ``ConfigError`` with the nearest name if there is none."""
    kinds = FAMILIES[family]
    if kind not in kinds:
        raise ConfigError(unknown_name(family, kind, kinds))
    module, _, name = kinds[kind].partition(":")
    return getattr(import_module(module), name)


def check(family: str, spec: Spec, supplied: tuple[str, ...] = ()) -> None:
    """Refuse a Spec whose parameters its class would not take, by name or by type.

    ``supplied`` are arguments that the caller will add.
    """
    component = resolve(family, spec.kind)
    signature = inspect.signature(component)
    kinds = typing.get_type_hints(component.__init__)
    for key, value in spec.params.items():
        if key not in signature.parameters or key in supplied:
            valid = [name for name in signature.parameters if name not in supplied]
            raise ConfigError(unknown_name(f"parameter of {family} '{spec.kind}'", key, valid))
        from_json(kinds.get(key, Any), value, f"{family} '{spec.kind}' params.{key}")
    try:
        signature.bind(**dict.fromkeys(supplied), **spec.params)
    except TypeError as error:
        raise ConfigError(f"{family} '{spec.kind}': {error}; give it under params") from None


def build(family: str, spec: Spec, **supplied: Any) -> Any:
    """The component that ``spec`` names, constructed."""
    check(family, spec, tuple(supplied))
    return resolve(family, spec.kind)(**supplied, **spec.params)


def with_seed(family: str, spec: Spec, seed: int) -> Spec:
    """``spec`` with ``seed`` among its parameters, if its class takes one and the spec does not set it."""
    takes_seed = "seed" in inspect.signature(resolve(family, spec.kind)).parameters
    return Spec(spec.kind, {"seed": seed, **spec.params}) if takes_seed else spec


def kind_of(family: str, component: object) -> str:
    """The kind under which the class of ``component`` is registered."""
    target = f"{type(component).__module__}:{type(component).__qualname__}"
    for kind, name in FAMILIES[family].items():
        if name == target:
            return kind
    raise ConfigError(
        f"{type(component).__qualname__} is not registered as a {family}; "
        f"call geovq.registry.register('{family}', KIND, '{target}') before saving it"
    )

"""What every post-hoc quantizer shares: a scikit-learn estimator around three methods.

A new quantizer subclasses ``Quantizer``, sets ``codebook_`` in ``_fit`` and finds codes in ``_encode``; it
gets validation, ``predict``, ``transform``, ``score``, saving and ``as_module`` from here.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from geovq.config import Spec
from geovq.errors import CorruptArtifactError, InputError
from geovq.quantizers.validation import (
    check_codes,
    check_count,
    check_metric,
    check_points,
    check_sigma,
    seed_from,
)
from geovq.registry import build, kind_of
from geovq.storage.artifact import load_artifact, save_artifact

if TYPE_CHECKING:
    from geovq.quantizers.module import FittedQuantizer

Array = TypeVar("Array", np.ndarray, torch.Tensor)
Self = TypeVar("Self", bound="Quantizer")


class Quantizer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator, ABC):
    """Base of the post-hoc quantizers.

    ``X (n, d)`` are points: latents, or any embeddings. ``sigma (n, d)`` are posterior standard deviations,
    ``metric (n, d, d)`` is a metric tensor at every point, such as a decoder's J'J. A quantizer fitted with
    them must be called with them, because fit and assignment use one metric.

    Every codebook of several levels is additive: a point is the sum of one vector a level. Product and scalar
    codes are sums too, of vectors that are zero outside their group or axis.

    Attributes
    ----------
    codebook_ : (K, d), or for L levels (L, K, d) or, of different sizes, a list of L arrays (K_l, d)
    uses_sigma_, uses_metric_ : whether ``fit`` was given them
    n_features_in_ : d
    """

    metric_params: ClassVar[tuple[str, ...]] = ()
    """Parameters that say how codes are found: at coding they must be what they were at ``fit``."""

    n_codes: int
    random_state: Any
    codebook_: np.ndarray | list[np.ndarray]
    uses_sigma_: bool
    uses_metric_: bool = False
    n_features_in_: int

    def planned_sizes(self, d: int) -> tuple[int, ...]:
        """Alphabet size of every level for points of d coordinates, before ``fit``.

        A quantizer that allots its bits by the data may settle on other sizes of no more bits in sum.
        """
        return (self.n_codes,)

    @property
    def takes_sigma(self) -> bool:
        """Whether the metric looks at sigma, so that there is a reason to pass it."""
        return False

    @property
    def takes_metric(self) -> bool:
        """Whether metric tensors change anything, so that there is a reason to pass them."""
        return False

    @abstractmethod
    def _fit(
        self, points: np.ndarray, sigma: np.ndarray | None, metric: np.ndarray | None, seed: int
    ) -> None:
        """Learn from valid ``points``, ``sigma (n, d)`` and ``metric (n, d, d)``; set ``codebook_``.

        All three are of one dtype, float32 or float64.
        """

    @abstractmethod
    def _encode(
        self, points: torch.Tensor, sigma: torch.Tensor | None, metric: torch.Tensor | None
    ) -> torch.Tensor:
        """Codes int64 (n,) or (n, L) of valid points, on their device."""

    @staticmethod
    def look_up(codebook: Array | Sequence[Array], codes: Array) -> Array:
        """Vectors (..., d) of codes (...) or, for L levels, (..., L); NumPy arrays or tensors alike."""
        if not isinstance(codebook, Sequence) and codebook.ndim == 2:
            return codebook[codes]
        vectors = codebook[0][codes[..., 0]]
        for level in range(1, len(codebook)):
            vectors = vectors + codebook[level][codes[..., level]]
        return vectors

    def fit(self: Self, X: Any, y: Any = None, *, sigma: Any = None, metric: Any = None) -> Self:
        """Learn a codebook from ``X (n, d)``; ``y`` is ignored.

        Raises ``InputError`` (a ``ValueError``) if X, sigma or metric are not finite numbers of the right
        shape, a sigma or metric is not positive, or there are more codes than points.
        """
        # Some attributes exist with sigma or some parameters alone: none may be left of an earlier fit.
        for name in [name for name in vars(self) if name.endswith("_") and not name.startswith("_")]:
            delattr(self, name)
        points = check_points(self, X, reset=True)
        sigma, metric = check_sigma(sigma, points), check_metric(metric, points)
        check_count("n_codes", self.n_codes)
        if self.n_codes > len(points):
            raise InputError(
                f"n_codes is {self.n_codes}, but X has n_samples={len(points)}; expected at least one point "
                "a code; lower n_codes or give more points"
            )
        self.uses_sigma_, self.uses_metric_ = sigma is not None, metric is not None
        self._fitted_params = self._metric_params()
        self._fit(points, sigma, metric, seed_from(self.random_state))
        return self

    def predict(self, X: Any, *, sigma: Any = None, metric: Any = None) -> np.ndarray:
        """Codes of ``X (n, d)``: int64 (n,), or (n, L) for L levels; ties go to the lowest code."""
        check_is_fitted(self, "codebook_")
        for name, value in self._metric_params().items():
            if value != self._fitted_params[name]:
                raise InputError(
                    f"{name} is {value!r}, but the quantizer was fitted with {self._fitted_params[name]!r}; "
                    "fit and assignment use one metric: fit again, or set it back"
                )
        points = check_points(self, X, reset=False)
        given = (
            check_sigma(sigma, points, self.uses_sigma_),
            check_metric(metric, points, self.uses_metric_),
        )
        codes = self._encode(
            as_tensor(points), *(None if array is None else as_tensor(array) for array in given)
        )
        return codes.numpy()

    def transform(self, X: Any, *, sigma: Any = None, metric: Any = None) -> np.ndarray:
        """Every point replaced by the vector of its code, (n, d); float32 stays float32, else float64."""
        check_is_fitted(self, "codebook_")
        points = check_points(self, X, reset=False)
        vectors = self.inverse_transform(self.predict(points, sigma=sigma, metric=metric))
        return vectors.astype(points.dtype, copy=False)

    def inverse_transform(self, codes: Any) -> np.ndarray:
        """Vectors (n, d) of codes (n,) or (n, L). Raises ``InputError`` for a code that does not exist."""
        check_is_fitted(self, "codebook_")
        return self.look_up(self.codebook_, check_codes(codes, self.codebook_))

    def score(self, X: Any, y: Any = None, *, sigma: Any = None, metric: Any = None) -> float:
        """Minus the squared Euclidean distance to the quantized point, averaged over points."""
        check_is_fitted(self, "codebook_")
        points = check_points(self, X, reset=False)
        errors = points.astype(np.float64) - self.transform(points, sigma=sigma, metric=metric)
        return -float(np.square(errors).sum(1).mean())

    def fit_predict(self, X: Any, y: Any = None, *, sigma: Any = None, metric: Any = None) -> np.ndarray:
        """``fit``, then ``predict`` of the same points."""
        return self.fit(X, sigma=sigma, metric=metric).predict(X, sigma=sigma, metric=metric)

    def fit_transform(self, X: Any, y: Any = None, *, sigma: Any = None, metric: Any = None) -> np.ndarray:
        """``fit``, then ``transform`` of the same points."""
        return self.fit(X, sigma=sigma, metric=metric).transform(X, sigma=sigma, metric=metric)

    def save(self, path: str | Path) -> None:
        """Write the fitted quantizer to a folder: ``config.json``, ``model.safetensors``, hashes of both."""
        check_is_fitted(self, "codebook_")
        arrays, values = self.fitted_state()
        config = {
            "type": "quantizer",
            "kind": kind_of("quantizer", self),
            "params": self.json_params(),
            "fitted": values,
        }
        save_artifact(Path(path), config, arrays)

    @classmethod
    def load(cls: type[Self], path: str | Path) -> Self:
        """The quantizer that ``save`` wrote; it gives the same codes.

        Raises ``CorruptArtifactError`` if the files were altered, ``InputError`` if they hold another class.
        """
        config, arrays = load_artifact(Path(path))
        if config.get("type") != "quantizer" or not {"codebook_", "codebook_0"} & arrays.keys():
            raise CorruptArtifactError(
                f"{path}: holds type {config.get('type')!r}; expected a quantizer with a codebook"
            )
        quantizer = build("quantizer", Spec(config["kind"], config["params"]))
        if not isinstance(quantizer, cls):
            raise InputError(f"{path}: holds a {type(quantizer).__name__}; expected a {cls.__name__}")
        quantizer.restore(arrays, config["fitted"])
        return quantizer

    def as_module(self) -> FittedQuantizer:
        """The fitted quantizer as an ``nn.Module`` with the interface of the trainable layers."""
        from geovq.quantizers.module import FittedQuantizer

        check_is_fitted(self, "codebook_")
        return FittedQuantizer(self)

    def fitted_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """All learnt attributes: numeric arrays by name, and JSON values by name.

        The levels of a codebook that is a list are the arrays ``codebook_0``, ``codebook_1`` and so on.
        """
        arrays: dict[str, np.ndarray] = {}
        values: dict[str, Any] = {}
        for name, value in vars(self).items():
            if not name.endswith("_") or name.startswith("_"):
                continue
            if name == "codebook_" and isinstance(value, list):
                arrays |= {f"{name}{level}": array for level, array in enumerate(value)}
            elif isinstance(value, np.ndarray) and value.dtype != object:
                arrays[name] = value
            else:
                values[name] = value.tolist() if isinstance(value, np.ndarray) else value
        return arrays, values

    def restore(self, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> None:
        """Set the learnt attributes that ``fitted_state`` returned."""
        levels = [name for name in arrays if re.fullmatch(r"codebook_\d+", name)]
        if levels:
            self.codebook_ = [arrays[f"codebook_{level}"] for level in range(len(levels))]
        single = {name: array for name, array in arrays.items() if name not in levels}
        for name, value in {**single, **values}.items():
            setattr(self, name, np.asarray(value, dtype=object) if isinstance(value, list) else value)
        self._fitted_params = self._metric_params()

    def _metric_params(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.metric_params}

    def json_params(self) -> dict[str, Any]:
        """Constructor arguments as JSON values; a generator given as ``random_state`` becomes ``None``."""
        params = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in self.get_params(deep=False).items()
        }
        if not isinstance(params.get("random_state"), int | None):
            params["random_state"] = None
        return params

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def as_tensor(array: np.ndarray) -> torch.Tensor:
    """A CPU tensor of an array, sharing its memory where PyTorch can."""
    # PyTorch has no read-only tensors and warns; memory maps are read-only.
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))

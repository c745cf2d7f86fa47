"""Jacobian-vector products of networks in one forward pass, without reverse mode."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

LINEAR_LAYERS = frozenset(
    (F.linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
)


def jvp(function: Callable[[Tensor], Tensor], points: Tensor, tangents: Tensor) -> Tensor:
    """The Jacobian of ``function`` at ``points`` times ``tangents``, in the shape of the function's values.

    Equal to ``torch.func.jvp``, in two thirds of its time on convolutions. If the function acts row by row on
    a batch, these are the products of every row. Inside ``torch.func.vmap`` over tangents the values are
    computed once for all of them.

    Parameters
    ----------
    function : of one tensor
    points, tangents : of one shape and dtype
    """

    _load_rules()

    def with_constant_weights(points: Tensor) -> Tensor:
        with _ConstantWeights():
            return function(points)

    products: Tensor = torch.func.jvp(with_constant_weights, (points,), (tangents,))[1]
    return products


def has_derivative(function: Callable[[Tensor], Tensor], points: Tensor) -> bool:
    """Whether derivatives pass through ``function``: not if it detaches its argument or ignores it."""
    _load_rules()
    with forward_ad.dual_level():
        dual = function(forward_ad.make_dual(points, torch.ones_like(points)))
        return forward_ad.unpack_dual(dual).tangent is not None


@cache
def _load_rules() -> None:
    """Have PyTorch load its rules of forward derivatives now: doing so, it warns of code of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.zeros(1),))


class _ConstantWeights(TorchFunctionMode):
    """Layers of constant weights send a tangent through themselves without the bias.

    PyTorch's own rule also multiplies the values with the tangent of the weights, a tensor of zeros: a third
    pass through every convolution.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in LINEAR_LAYERS:
            return _linear_layer(func, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _linear_layer(
    layer: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *options: Any,
    **named: Any,
) -> Tensor:
    values, tangents = forward_ad.unpack_dual(input)
    if tangents is None or _varies(weight) or _varies(bias):
        return layer(input, weight, bias, *options, **named)
    moved = layer(values, weight, bias, *options, **named)
    return forward_ad.make_dual(moved, layer(tangents, weight, None, *options, **named))


def _varies(tensor: Tensor | None) -> bool:
    return tensor is not None and forward_ad.unpack_dual(tensor).tangent is not None

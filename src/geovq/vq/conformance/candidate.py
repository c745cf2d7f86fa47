"""A layer under examination: how to make it, train it and feed it, and what it shows of itself."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast
from unittest import SkipTest

import torch
import torch.distributed as dist
from torch import Tensor, nn

from geovq.errors import InputError
from geovq.seeding import seeded_weights, torch_generator
from geovq.vq.distributed import is_distributed, summed
from geovq.vq.layer import QuantizerLayer
from geovq.vq.quantized import Quantized

N_VECTORS = 64  # of a training batch
LONGEST_MESSAGE = 300  # of an error that a check did not foresee
LEARNING_RATE = 0.05  # of plain gradient descent, which has no state of its own


class Mismatch(AssertionError):
    """What a layer does, what it should do, and the bug that usually explains the difference."""

    def __init__(self, found: object, expected: object, likely: str) -> None:
        super().__init__(f"found {found}; expected {expected}; likely {likely}")


class Candidate:
    """A layer under examination, on the CPU.

    Parameters
    ----------
    make : gives a new layer, the same one every time. Arguments that its signature names (``commitment``,
        ``entropy``, ``kl``, ``n_codes``, ``revival``, ``seed``) are set by keyword where a check needs them:
        ``functools.partial(EMAVQ, dim=4, n_codes=8)`` is examined more closely than a function without.
    dim : the width d of the vectors that it quantizes.
    """

    def __init__(self, make: Callable[..., QuantizerLayer], *, dim: int) -> None:
        self.make, self.dim = make, dim
        self._options = {
            name
            for name, parameter in inspect.signature(make).parameters.items()
            if parameter.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        }

    @functools.cached_property
    def name(self) -> str:
        """The class of the layer."""
        return type(self.fresh()).__name__

    def takes(self, option: str) -> bool:
        """Whether ``make`` names an argument so called."""
        return option in self._options

    def needs(self, option: str) -> None:
        """Skip the check if ``make`` does not take ``option``."""
        if not self.takes(option):
            raise SkipTest(f"make takes no argument '{option}'")

    def taken(self, **options: Any) -> dict[str, Any]:
        """Those of ``options`` that ``make`` takes."""
        return {name: value for name, value in options.items() if self.takes(name)}

    def fresh(self, **options: Any) -> QuantizerLayer:
        """A new layer; weights that it draws from PyTorch's global generator are the same every time."""
        with seeded_weights(0, "conformance"):
            return self.make(**options)

    def trained(self, **options: Any) -> QuantizerLayer:
        """A layer after three training steps, in training mode."""
        layer = self.fresh(**options).train()
        for step in range(3):
            take_step(layer, self.vectors(N_VECTORS, step=step))
        return layer

    def vectors(self, *shape: int, step: int = 0) -> Tensor:
        """Standard normal vectors (..., d), others at every step."""
        return torch.randn(*shape, self.dim, generator=torch_generator(0, "conformance", step))


def check(examine: Callable[[Candidate], None]) -> Callable[[Candidate], None]:
    """A check whose every failure is an ``AssertionError`` of one line that names the layer and the check.

    It raises ``unittest.SkipTest`` where it does not apply, which pytest and unittest show as skipped.
    """

    @functools.wraps(examine)
    def examined(candidate: Candidate) -> None:
        try:
            examine(candidate)
        except SkipTest as reason:
            raise SkipTest(f"{candidate.name}: {examine.__name__}: {reason}") from None
        except Mismatch as mismatch:
            raise AssertionError(f"{candidate.name}: {examine.__name__}: {mismatch}") from None
        except Exception as error:
            what = " ".join(str(error).split())[:LONGEST_MESSAGE]
            found = f"found {type(error).__name__} ({what}); expected no error"
            raise AssertionError(f"{candidate.name}: {examine.__name__}: {found}") from error

    return examined


def expect(satisfied: bool, found: object, expected: object, likely: str) -> None:
    """Raise ``Mismatch`` unless ``satisfied``."""
    if not satisfied:
        raise Mismatch(found, expected, likely)


def evaluated(layer: QuantizerLayer, z: Tensor) -> Quantized:
    """What the layer gives in eval mode, itself left as it is."""
    return copy.deepcopy(layer).eval()(z)


def take_step(layer: nn.Module, z: Tensor) -> Quantized:
    """One training step on ``z``: the layer's loss and a reconstruction's; gradients averaged as DDP does."""
    # An encoder's output needs the graph even where the codebook moves by itself.
    z = z.detach().requires_grad_()
    found: Quantized = layer(z)
    total = found.loss + (found.z_q - z.detach()).square().sum(-1).mean()
    parameters = [p for p in layer.parameters() if p.requires_grad]
    _, *gradients = gradients_of(total, [z, *parameters])
    n_processes = dist.get_world_size() if is_distributed() else 1
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.sub_(summed(gradient), alpha=LEARNING_RATE / n_processes)
    return found


def gradients_of(scalar: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of ``scalar``: zeros for what it does not depend on."""
    if not scalar.requires_grad:
        return [torch.zeros_like(tensor) for tensor in tensors]
    return list(torch.autograd.grad(scalar, tensors, allow_unused=True, materialize_grads=True))


def books(layer: QuantizerLayer) -> list[Tensor]:
    """Copies of the codebooks (K_l, d) of every level."""
    book = cast(Tensor | Sequence[Tensor], layer.codebook)
    levels = [book] if isinstance(book, Tensor) and book.ndim == 2 else list(book)
    return [level.detach().clone() for level in levels]


def every_code(layer: QuantizerLayer) -> Tensor:
    """Codes (n,) or (n, L) in which every code of every level occurs."""
    steps = torch.arange(max(layer.n_codes))
    levels = [steps % size for size in layer.n_codes]
    return torch.stack(levels, dim=-1) if len(levels) > 1 else levels[0]


def codebook_parameters(layer: QuantizerLayer) -> dict[str, nn.Parameter]:
    """The parameters that the vectors of codes are made of: not those of a projection before the lookup."""
    named = {name: p for name, p in layer.named_parameters() if p.requires_grad}
    vectors = layer.lookup(every_code(layer))
    if not named or not vectors.requires_grad:
        return {}
    gradients = torch.autograd.grad(vectors.sum(), list(named.values()), allow_unused=True)
    return {name: p for (name, p), g in zip(named.items(), gradients, strict=True) if g is not None}


def state_of(layer: nn.Module) -> dict[str, Tensor]:
    """A copy of the layer's state."""
    return {name: tensor.detach().clone() for name, tensor in layer.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> list[str]:
    """Names of the tensors that differ, or that only one state has."""
    names = sorted(before.keys() ^ after.keys())
    return names + [name for name in before if name in after and not torch.equal(before[name], after[name])]


def chooses_its_codebook(layer: QuantizerLayer) -> bool:
    """Whether the layer can start from a fitted codebook: it takes its own."""
    try:
        copy.deepcopy(layer).start_from(books(layer))
    except InputError:
        return False
    return True


def holds(layer: QuantizerLayer, codebooks: Sequence[Tensor]) -> bool:
    """Whether a layer that starts from codebooks (K_l, d) has exactly these: no directions or projections."""
    other = copy.deepcopy(layer)
    other.start_from(codebooks)
    return all(torch.allclose(a, b, atol=1e-5) for a, b in zip(books(other), codebooks, strict=True))


def count_unequal(a: Tensor, b: Tensor) -> str:
    """How many entries of two tensors differ, in words."""
    if a.shape != b.shape:
        return f"shape {tuple(a.shape)} instead of {tuple(b.shape)}"
    return f"{int((a != b).sum())} of {a.numel()} that differ"

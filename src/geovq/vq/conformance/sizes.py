"""Signs and sizes: a gradient or a loss that is there may still be reversed, or twice what it should be."""

from __future__ import annotations

import copy
from unittest import SkipTest

from torch import Tensor

from geovq.vq.conformance.candidate import (
    N_VECTORS,
    Candidate,
    books,
    check,
    chooses_its_codebook,
    codebook_parameters,
    expect,
    gradients_of,
    holds,
)
from geovq.vq.layer import QuantizerLayer

TOLERANCE = 1e-4  # relative
SMALLEST, LARGEST = 0.1, 10.0  # of a gradient that an estimator scales, relative to the one that arrives


@check
def gradient_keeps_its_direction(candidate: Candidate) -> None:
    """A gradient that arrives at ``z_q`` leaves at ``z`` with its sign, about its size, and once.

    ``g`` arriving at the whole batch, what leaves has a positive product with it, and 0.1 to 10 times its
    size: rotations, bounds, unit vectors and soft weights scale it, each vector's by another number. What is
    one number times ``g``, the same for all vectors and dimensions, is straight-through, and the number 1.

    Layers that learn a map before their codes may turn any direction, and are skipped.
    """
    layer = candidate.trained(**candidate.taken(entropy=0.0, kl=0.0))
    codebook = codebook_parameters(layer)
    others = [p for name, p in layer.named_parameters() if p.requires_grad and name not in codebook]
    z, arriving = candidate.vectors(N_VECTORS, step=5).requires_grad_(), candidate.vectors(N_VECTORS, step=6)
    leaving, *of_others = gradients_of((layer(z).z_q * arriving).sum(), [z, *others])
    if any(bool(gradient.any()) for gradient in of_others):
        raise SkipTest("weights that it learns stand between z and its codes, and may turn a gradient")
    along = float((leaving * arriving).sum() / arriving.square().sum())
    expect(
        along > 0,
        f"a gradient of z that is {along:.3g} times the one of z_q, along it",
        "a positive number",
        "an estimator with the wrong sign, or none",
    )
    size = float(leaving.norm() / arriving.norm())
    expect(
        SMALLEST <= size <= LARGEST,
        f"a gradient of z of {size:.3g} times the size of the one of z_q",
        f"{SMALLEST} to {LARGEST} times",
        "an estimator that averages or sums over vectors or codes",
    )
    # In a single dimension a grid scales all vectors alike.
    if candidate.dim > 1 and bool(((leaving - along * arriving).abs() <= TOLERANCE * size).all()):
        expect(
            abs(along - 1) <= TOLERANCE,
            f"{along:.6g} times the gradient of z_q as the gradient of z",
            1,
            "a straight-through estimator applied twice, or a scaled one",
        )


@check
def codebook_term_lowers_the_distortion(candidate: Candidate) -> None:
    """A small step along minus the gradient of ``loss`` brings the codebook nearer to the batch's vectors.

    For layers of one level whose codebook the loss reaches; ``entropy`` and ``kl``, if ``make`` takes them,
    are set to 0.
    """
    layer = candidate.trained(**candidate.taken(entropy=0.0, kl=0.0))
    if len(layer.n_codes) > 1:
        raise SkipTest("it has several levels, whose terms may oppose each other; examine a single one")
    z, before = candidate.vectors(N_VECTORS, step=5), copy.deepcopy(layer)
    found = layer(z)
    of_loss = gradients_of(found.loss, list(codebook_parameters(layer).values()))
    if not any(bool(gradient.any()) for gradient in of_loss):
        raise SkipTest("its loss has no gradient of the codebook")
    distortion = (z - before.lookup(found.codes)).square().sum(-1).mean()
    of_distortion = gradients_of(distortion, list(codebook_parameters(before).values()))
    slope = sum(float((a * b).sum()) for a, b in zip(of_loss, of_distortion, strict=True))
    expect(
        slope > 0,
        f"a distortion that changes by {-slope:.3g} a unit step along minus the gradient of loss",
        "one that falls",
        "the codebook term with the wrong sign",
    )


@check
def commitment_is_the_squared_distance(candidate: Candidate) -> None:
    """At commitment 1 the loss is larger than at 0 by ``|z - lookup(codes)|^2``: summed over d, once.

    For layers that hold any codebook of one level as it is, and for those whose commitment's gradient is
    that of this distance up to a factor: codes of unit vectors, of standardised or projected ones and of
    several residuals are committed to elsewhere. ``entropy`` and ``kl``, if ``make`` takes them, are set
    to 0.
    """
    candidate.needs("commitment")
    state = candidate.trained().state_dict()
    z = candidate.vectors(N_VECTORS, step=5).requires_grad_()

    def loss(commitment: float) -> tuple[Tensor, Tensor]:
        layer = candidate.fresh(commitment=commitment, **candidate.taken(entropy=0.0, kl=0.0)).train()
        layer.load_state_dict(state)
        before = copy.deepcopy(layer)
        found = layer(z)
        return found.loss, (z - before.lookup(found.codes)).detach()

    (without, _), (once, error) = loss(0.0), loss(1.0)
    (gradient,) = gradients_of(once - without, [z])
    if not _is_multiple(gradient, error) and not _holds_any_codebook(candidate.trained()):
        raise SkipTest("it commits to something other than lookup(codes), in a space of its own")
    found, expected = float((once - without).detach()), float(error.square().sum(-1).mean())
    expect(
        abs(found - expected) <= TOLERANCE * (abs(expected) + float(without.detach().abs())),
        f"{found:.6g} more loss at commitment 1 than at 0",
        f"{expected:.6g}",
        "a mean over d, or a factor besides the commitment",
    )


def _is_multiple(gradient: Tensor, error: Tensor) -> bool:
    factor = (gradient * error).sum() / error.square().sum()
    off = (gradient - factor * error).norm()
    return bool(factor != 0) and bool(off <= TOLERANCE * gradient.norm())


def _holds_any_codebook(layer: QuantizerLayer) -> bool:
    if len(layer.n_codes) > 1 or not chooses_its_codebook(layer):
        return False
    return holds(layer, [2 * book for book in books(layer)])

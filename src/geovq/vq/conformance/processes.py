"""Data-parallel training: every process holds the same codebook, the one of a single process."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, NamedTuple
from unittest import SkipTest

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from geovq.seeding import set_threads
from geovq.vq.conformance.candidate import (
    Candidate,
    books,
    check,
    chooses_its_codebook,
    codebook_parameters,
    expect,
    state_of,
    take_step,
)
from geovq.vq.conformance.codes import is_stochastic
from geovq.vq.distributed import is_distributed, of_first_rank
from geovq.vq.layer import QuantizerLayer

N_PROCESSES = 2
SECONDS = 60  # that one process waits for the other
N_VECTORS = 320  # of a batch: a start that needs many vectors finds them in either share
SHARES = (slice(0, 192), slice(192, N_VECTORS))  # unequal, as last batches are
N_STEPS = 8
TOLERANCE = 1e-5

LIKELY = "counts, sums, revivals, statistics or the start not reduced over processes"

Books = list[NDArray[np.float32]]  # a codebook a level


class Moment(NamedTuple):
    """What a layer holds after a step of its training."""

    books: Books
    state: dict[str, NDArray[Any]]


@check
def processes_share_a_codebook(candidate: Candidate) -> None:
    """Two processes (gloo, CPU) that see different vectors hold the same codebook and state after every step.

    ``revival`` is set to 0.97 if ``make`` takes it, so that codes are revived. ``make`` must be importable by
    another process: a function of a module, or ``functools.partial`` of a class.
    """
    of_ranks = _in_processes(candidate, candidate.taken(revival=0.97))
    for step, (ours, theirs) in enumerate(zip(*of_ranks, strict=True)):
        distance = _distance(ours.books, theirs.books)
        expect(
            distance == 0,
            f"codebooks up to {distance:.3g} apart after step {step + 1}",
            "the same in both processes",
            LIKELY,
        )
        other = [name for name, array in ours.state.items() if not np.array_equal(array, theirs.state[name])]
        expect(
            not other,
            f"other {', '.join(other)} after step {step + 1}",
            "the same in both processes",
            LIKELY,
        )


@check
def processes_learn_what_one_does(candidate: Candidate) -> None:
    """A codebook that moves by itself is, in two processes, that of one with all vectors, within 1e-5.

    ``revival`` is set to 0 if ``make`` takes it: its draws depend on the processes.
    """
    layer = candidate.trained()
    if codebook_parameters(layer):
        raise SkipTest("its codebook moves by gradients, which the model averages")
    if not chooses_its_codebook(layer) and _is_still(candidate):
        raise SkipTest("its codebook is fixed by construction")
    if is_stochastic(candidate):
        raise SkipTest("its codes or z_q depend on its seed in training")
    options = candidate.taken(revival=0.0)
    alone = _training(candidate.make, candidate.dim, options, slice(0, N_VECTORS))
    of_first, _ = _in_processes(candidate, options)
    for step, (ours, expected) in enumerate(zip(of_first, alone, strict=True)):
        distance = _distance(ours.books, expected.books)
        expect(
            distance <= TOLERANCE,
            f"a codebook up to {distance:.3g} from that of one process after step {step + 1}",
            f"at most {TOLERANCE}",
            "an average of the processes' averages instead of sums over all vectors",
        )


def _is_still(candidate: Candidate) -> bool:
    layer = candidate.trained()
    before = books(layer)
    take_step(layer, candidate.vectors(N_VECTORS, step=5))
    return all(torch.equal(a, b) for a, b in zip(before, books(layer), strict=True))


def _distance(ours: Books, theirs: Books) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))


def _training(
    make: Callable[..., QuantizerLayer], dim: int, options: dict[str, Any], share: slice
) -> list[Moment]:
    """What the layer holds after every step on a share of every batch, from rank 0's weights."""
    candidate = Candidate(make, dim=dim)
    layer = candidate.fresh(**options).train()
    with torch.no_grad():
        for tensor in (*layer.parameters(), *layer.buffers()):
            tensor.copy_(of_first_rank(tensor))
    found = []
    for step in range(N_STEPS):
        # Later vectors lie together, so that codes fall out of use.
        scale = 1.0 if step < 2 else 0.2
        take_step(layer, scale * candidate.vectors(N_VECTORS, step=step)[share])
        state = {name: tensor.numpy() for name, tensor in state_of(layer).items()}
        found.append(Moment([book.numpy() for book in books(layer)], state))
    return found


def _in_processes(candidate: Candidate, options: dict[str, Any]) -> list[list[Moment]]:
    if is_distributed():
        raise SkipTest("this process is already one of several")
    try:
        ForkingPickler.dumps(candidate.make)
    except Exception as error:
        raise SkipTest(
            f"make cannot be sent to another process ({error}); give functools.partial of a class, or a "
            "function of a module"
        ) from None
    try:
        futures = [
            process.submit(_training, candidate.make, candidate.dim, options, share)
            for process, share in zip(_processes(), SHARES, strict=True)
        ]
        return [future.result(timeout=2 * SECONDS) for future in futures]
    except BaseException:
        _end()
        raise


@functools.cache
def _processes() -> tuple[ProcessPoolExecutor, ...]:
    """One worker a rank, started once for all layers: starting takes longer than training."""
    folder = Path(tempfile.mkdtemp(prefix="geovq-processes-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return tuple(
        ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=_join, initargs=(rank, str(folder / "meeting"))
        )
        for rank in range(N_PROCESSES)
    )


def _end() -> None:
    """End the processes, which a failure may have left waiting for each other."""
    for process in _processes():
        process.shutdown(wait=False, cancel_futures=True)
    _processes.cache_clear()


def _join(rank: int, meeting: str) -> None:
    set_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=N_PROCESSES,
        timeout=timedelta(seconds=SECONDS),
    )

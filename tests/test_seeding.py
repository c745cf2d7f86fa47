"""Draws are keyed, the same in every process, and leave the global generators alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

import geovq
from geovq.errors import ConfigError
from geovq.seeding import (
    available_cores,
    derive_seed,
    deterministic,
    numpy_generator,
    seeded_weights,
    set_threads,
    threads_wanted,
    torch_generator,
)

keys = st.tuples(st.integers(0, 2**40), st.text(max_size=10), st.integers(0, 2**40))


def test_seeds_never_change():
    # The first 63 bits of SHA-256("0/batch/0"): another value would change every published figure.
    assert derive_seed(0, "batch") == 5278119267937101927


def test_another_process_draws_the_same():
    draws = "derive_seed(3, 'revival', 7), numpy_generator(3, 'x', 1).integers(2**60)"
    environment = {**os.environ, "PYTHONPATH": str(Path(geovq.__file__).parents[1])}
    seen = {
        subprocess.run(
            [sys.executable, "-c", f"from geovq.seeding import *; print({draws})"],
            env={**environment, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert seen == {f"{derive_seed(3, 'revival', 7)} {numpy_generator(3, 'x', 1).integers(2**60)}\n"}


@given(keys, keys)
def test_seeds_differ_as_their_keys_do(a, b):
    assert (derive_seed(*a) == derive_seed(*b)) == (a == b)
    assert 0 <= derive_seed(*a) < 2**63


@given(keys)
def test_equal_keys_draw_the_same(key):
    assert np.array_equal(numpy_generator(*key).random(5), numpy_generator(*key).random(5))
    first, second = (torch.rand(5, generator=torch_generator(*key)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("other", [(1, "batch", 5), (0, "noise", 5), (0, "batch", 6)])
def test_draws_differ_by_seed_purpose_and_step(other):
    ours, theirs = numpy_generator(0, "batch", 5).random(8), numpy_generator(*other).random(8)
    assert not np.isin(ours, theirs).any()
    assert not torch.equal(
        torch.rand(8, generator=torch_generator(0, "batch", 5)),
        torch.rand(8, generator=torch_generator(*other)),
    )


def test_weights_are_keyed_and_the_global_generator_is_restored():
    torch.manual_seed(11)
    undisturbed = torch.rand(3)
    torch.manual_seed(11)
    with seeded_weights(0, "weights of a"):
        first = torch.nn.Linear(4, 4).weight
    assert torch.equal(torch.rand(3), undisturbed)
    torch.manual_seed(12)
    with seeded_weights(0, "weights of a"):
        again = torch.nn.Linear(4, 4).weight
    with seeded_weights(0, "weights of b"):
        other = torch.nn.Linear(4, 4).weight
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_global_generator_is_restored_after_an_error():
    torch.manual_seed(11)
    before = torch.get_rng_state()
    with pytest.raises(KeyError), seeded_weights(0, "weights"):
        torch.rand(3)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


def test_deterministic_kernels_are_asked_for_inside_the_block_alone():
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(KeyError), deterministic():
        assert torch.are_deterministic_algorithms_enabled()
        raise KeyError
    assert not torch.are_deterministic_algorithms_enabled()


def test_every_library_gets_the_threads():
    before = torch.get_num_threads()
    try:
        for count in (2, 1):
            set_threads(count)
            assert torch.get_num_threads() == faiss.omp_get_max_threads() == count
            assert {pool["num_threads"] for pool in threadpool_info()} == {count}
    finally:
        set_threads(before)


def test_the_environment_may_name_the_threads(monkeypatch):
    monkeypatch.setenv("GEOVQ_THREADS", "3")
    assert threads_wanted() == 3
    monkeypatch.setenv("GEOVQ_THREADS", "")
    assert threads_wanted() == available_cores()
    for wrong in ("0", "-1", "two", "1.5"):
        monkeypatch.setenv("GEOVQ_THREADS", wrong)
        with pytest.raises(ConfigError, match=f"GEOVQ_THREADS is '{wrong}'"):
            threads_wanted()

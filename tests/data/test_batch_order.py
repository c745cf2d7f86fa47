"""Batches: each epoch is a permutation, and each step a pure function of (seed, step)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geovq.data import BatchOrder
from geovq.errors import InputError

orders = st.tuples(st.integers(1, 200), st.integers(1, 50), st.integers(0, 2**40))


@settings(deadline=None)
@given(orders, st.integers(0, 5))
def test_every_epoch_is_a_permutation_in_batches(arguments, epoch):
    n_items, batch_size, _ = arguments
    order = BatchOrder(*arguments)
    steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
    batches = [order.indices(step) for step in steps]
    assert all(batch.dtype == np.int64 for batch in batches)
    assert [len(b) for b in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert 1 <= len(batches[-1]) <= batch_size
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(n_items))


@settings(deadline=None)
@given(orders, st.lists(st.integers(0, 300), min_size=1, max_size=20))
def test_a_step_does_not_depend_on_the_steps_asked_for_before(arguments, steps):
    order = BatchOrder(*arguments)
    for step in steps:
        np.testing.assert_array_equal(order.indices(step), BatchOrder(*arguments).indices(step))


def test_epochs_and_seeds_differ():
    order = BatchOrder(100, 100, seed=0)
    assert not np.array_equal(order.indices(0), order.indices(1))
    assert not np.array_equal(order.indices(0), BatchOrder(100, 100, seed=1).indices(0))


def test_changing_a_batch_does_not_change_the_order():
    order = BatchOrder(10, 4, seed=0)
    order.indices(0)[:] = -1
    np.testing.assert_array_equal(order.indices(0), BatchOrder(10, 4, seed=0).indices(0))


def test_the_order_is_the_same_on_every_machine():
    assert BatchOrder(10, 5, seed=0).indices(0).tolist() == [7, 8, 2, 6, 5]
    assert BatchOrder(10, 5, seed=0).indices(3).tolist() == [3, 0, 7, 1, 4]


@pytest.mark.parametrize("arguments, named", [((0, 1, 0), "n_items is 0"), ((5, 0, 0), "batch_size is 0")])
def test_sizes_below_one_are_refused(arguments, named):
    with pytest.raises(InputError, match=named):
        BatchOrder(*arguments)


def test_a_negative_step_is_refused():
    with pytest.raises(InputError, match="step is -1"):
        BatchOrder(5, 2, seed=0).indices(-1)

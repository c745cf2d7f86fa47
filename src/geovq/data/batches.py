"""The order in which training sees the images."""

from __future__ import annotations

import numpy as np

from geovq.errors import InputError
from geovq.seeding import numpy_generator


class BatchOrder:
    """Batches as a pure function of (seed, step): every epoch is a fresh permutation of all images.

    Nothing has to be saved to resume: step 1,000 holds the same images whether or not the steps before it
    ran in this process. The last batch of an epoch is smaller when ``batch_size`` does not divide
    ``n_items``.

    >>> order = BatchOrder(n_items=5, batch_size=2, seed=0)
    >>> order.steps_per_epoch
    3
    >>> sorted(int(i) for step in range(3) for i in order.indices(step))
    [0, 1, 2, 3, 4]
    """

    def __init__(self, n_items: int, batch_size: int, seed: int) -> None:
        for name, value in (("n_items", n_items), ("batch_size", batch_size)):
            if value < 1:
                raise InputError(f"{name} is {value}; expected at least 1")
        self.n_items = n_items
        self.batch_size = batch_size
        self.seed = seed
        self._epoch = -1
        self._permutation = np.empty(0, dtype=np.int64)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass over the images, the smaller last one included."""
        return -(-self.n_items // self.batch_size)

    def indices(self, step: int) -> np.ndarray:
        """Indices of the images of one step, int64 (batch_size,) or fewer in an epoch's last step.

        Raises ``InputError`` for a negative step.
        """
        if step < 0:
            raise InputError(f"step is {step}; expected 0 or more")
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = numpy_generator(self.seed, "batch order", epoch)
            self._permutation = generator.permutation(self.n_items).astype(np.int64, copy=False)
            self._epoch = epoch
        start = position * self.batch_size
        return self._permutation[start : start + self.batch_size].copy()

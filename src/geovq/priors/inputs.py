"""What a prior accepts: codes inside their layout, labels where there are classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from geovq.errors import InputError
from geovq.tokenizer.layout import CodeLayout


def checked_codes(layout: CodeLayout, codes: ArrayLike | Tensor) -> np.ndarray:
    """Codes (N, S) as a new int64 array, each inside its slot's alphabet; ``InputError`` otherwise."""
    array = _array(codes)
    layout.validate(array)
    return array.astype(np.int64)


def checked_labels(labels: ArrayLike | Tensor | None, n: int, n_classes: int) -> np.ndarray | None:
    """Labels (n,) as a new int64 array in ``0..n_classes - 1``; ``None`` for a prior without classes."""
    if n_classes == 0:
        if labels is not None:
            raise InputError("labels were given, but this prior has no classes; leave them out")
        return None
    if labels is None:
        raise InputError(f"labels are missing; this prior has {n_classes} classes and needs {n} labels")
    array = _array(labels)
    if array.shape != (n,) or not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"labels are {array.dtype} {array.shape}; expected integers ({n},)")
    outside = (array < 0) | (array >= n_classes)
    if outside.any():
        row = int(np.argmax(outside))
        raise InputError(f"label {array[row]} of image {row} is outside 0..{n_classes - 1}")
    return array.astype(np.int64)


def _array(values: ArrayLike | Tensor) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)

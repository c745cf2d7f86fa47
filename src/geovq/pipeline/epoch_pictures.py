"""What a model makes of a few validation images after every epoch of its training."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

from geovq.data import ImageSet, to_bytes
from geovq.models.model import ImageModel
from geovq.reports.epochs import ORIGINAL, RECONSTRUCTED
from geovq.reports.pictures import SIDE, contact_sheet
from geovq.storage.atomic import write_bytes
from geovq.training import OnEpoch

MOST_IMAGES, MOST_NUMBERS = 16, 2**20  # fewer of large images
COLUMNS = 8


def draw_epochs(images: ImageSet, folders: list[Path]) -> OnEpoch:
    """A function for ``fit`` that writes two contact sheets of an epoch into each of ``folders``.

    ``epoch_N_orig.png`` has the first validation images, ``epoch_N_recon.png`` the same after the model.
    """
    count = min(len(images), MOST_IMAGES, max(1, MOST_NUMBERS // math.prod(images.shape)))
    originals = images.images(slice(0, count))
    side = max(SIDE, min(*images.shape[1:], 2 * SIDE))

    def sheet(pixels: np.ndarray) -> bytes:
        return contact_sheet(to_bytes(pixels), COLUMNS, "", side).png

    original = sheet(originals)

    @torch.no_grad()
    def draw(epoch: int, model: nn.Module) -> None:
        assert isinstance(model, ImageModel)
        device = next(model.parameters()).device
        again = sheet(model.reconstruct(torch.from_numpy(originals).to(device)).cpu().numpy())
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            for pattern, png in ((ORIGINAL, original), (RECONSTRUCTED, again)):
                write_bytes(folder / pattern.format(epoch=epoch), png)

    return draw

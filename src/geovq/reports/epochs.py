"""Pictures of the epochs of a training: which files of a run hold them, and a few of them for the page."""

from __future__ import annotations

import io
import re
from pathlib import Path

from PIL import Image

from geovq.errors import CorruptArtifactError
from geovq.reports.pictures import Picture

EPOCHS = "epochs"
"""The folder with the pictures, in that of a trained model and in the run's figures."""

ORIGINAL, RECONSTRUCTED = "epoch_{epoch}_orig.png", "epoch_{epoch}_recon.png"
MOST_SHOWN = 3


def epoch_files(run: Path) -> dict[str, Path]:
    """Every stored picture of a run's trainings, by its place in the run's figures."""
    found = sorted((run / "checkpoints").glob(f"*/*/{EPOCHS}/*.png"))
    return {f"{EPOCHS}/{path.parts[-4]}-{path.parts[-3]}/{path.name}": path for path in found}


def epoch_pictures(run: Path, model: str, seed: int) -> list[tuple[str, Picture]]:
    """The validation images and what the model made of them early, midway and last; empty if not stored.

    Raises ``CorruptArtifactError`` if a file is no picture.
    """
    folder = run / "checkpoints" / model / str(seed) / EPOCHS
    pattern = re.compile(re.escape(RECONSTRUCTED).replace(r"\{epoch\}", r"(\d+)"))
    epochs = sorted(int(found[1]) for path in folder.glob("*.png") if (found := pattern.fullmatch(path.name)))
    trained = [epoch for epoch in epochs if epoch > 0]
    if not trained:
        return []
    places = {round(i * (len(trained) - 1) / (MOST_SHOWN - 1)) for i in range(MOST_SHOWN)}
    shown = [trained[place] for place in sorted(places)]
    first = folder / ORIGINAL.format(epoch=shown[0])
    return [
        ("original", _read(first, f"Validation images given to {model}.")),
        *(
            (
                f"epoch {epoch}",
                _read(
                    folder / RECONSTRUCTED.format(epoch=epoch),
                    f"The same images after epoch {epoch} of {model}.",
                ),
            )
            for epoch in shown
        ),
    ]


def _read(path: Path, alt: str) -> Picture:
    try:
        png = path.read_bytes()
        width, height = Image.open(io.BytesIO(png)).size
    except OSError as error:
        raise CorruptArtifactError(
            f"{path}: not a readable picture: {error}; train the model again"
        ) from None
    return Picture(png, alt, width, height)

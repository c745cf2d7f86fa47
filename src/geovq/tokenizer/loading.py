"""A stored tokenizer of any kind."""

from __future__ import annotations

from pathlib import Path

from geovq.storage.artifact import CONFIG, read_json
from geovq.tokenizer.hierarchical import KIND, HierarchicalTokenizer
from geovq.tokenizer.latent import LatentTokenizer

AnyTokenizer = LatentTokenizer | HierarchicalTokenizer


def from_pretrained(folder: Path) -> AnyTokenizer:
    """The tokenizer of GeoVQ's own models that ``save_pretrained`` wrote into ``folder``, whatever its class.

    Around an encoder and decoder of one's own it is ``LatentTokenizer.from_pretrained``. Raises
    ``CorruptArtifactError`` if the folder holds no tokenizer or is damaged.
    """
    path = Path(folder) / CONFIG
    if path.exists() and read_json(path).get("kind") == KIND:
        return HierarchicalTokenizer.from_pretrained(folder)
    return LatentTokenizer.from_pretrained(folder)

"""Codes on disk: those of every split, their layout, and the tokenizer that gave them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geovq.errors import CorruptArtifactError
from geovq.storage.artifact import load_artifact, save_artifact
from geovq.tokenizer.layout import CodeLayout


@dataclass(frozen=True)
class StoredCodes:
    """Codes int64 (N, S) by split, with their layout and the fingerprint of their tokenizer."""

    layout: CodeLayout
    tokenizer_fingerprint: str
    splits: Mapping[str, np.ndarray]


def save_codes(
    folder: Path, stored: StoredCodes, data_fingerprint: str, extra: Mapping[str, np.ndarray] | None = None
) -> None:
    """Write codes as int32, with further arrays (labels, latents) under the names given.

    Raises ``InputError`` if the codes do not fit their layout.
    """
    for codes in stored.splits.values():
        stored.layout.validate(codes)
    config = {
        "kind": "codes",
        "layout": stored.layout.to_json(),
        "tokenizer": stored.tokenizer_fingerprint,
        "data": data_fingerprint,
    }
    tensors = {f"{split}.codes": codes.astype(np.int32) for split, codes in stored.splits.items()}
    save_artifact(folder, config, {**tensors, **(extra or {})})


def load_codes(folder: Path) -> StoredCodes:
    """Codes that ``save_codes`` wrote."""
    config, tensors = load_artifact(folder)
    if config.get("kind") != "codes":
        raise CorruptArtifactError(f"{folder}: holds a '{config.get('kind')}'; expected codes")
    splits = {
        name.removesuffix(".codes"): array.astype(np.int64)
        for name, array in tensors.items()
        if name.endswith(".codes")
    }
    return StoredCodes(CodeLayout.from_json(config["layout"]), config["tokenizer"], splits)

"""A prior on disk: its kind, layout, parameters and state, and which tokenizer's codes it models."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from geovq.config import Spec, from_json
from geovq.errors import ConfigError, CorruptArtifactError, InputError
from geovq.priors.prior import Prior
from geovq.registry import build, kind_of
from geovq.storage.artifact import CONFIG, TENSORS, load_artifact, save_artifact
from geovq.tokenizer.layout import CodeLayout


@dataclass(frozen=True)
class PriorInfo:
    """What is stored with a prior: its registered kind, and the tokenizer whose codes it was trained on.

    ``tokenizer_path`` is stored relative to the prior's folder, so that both can be moved together.
    """

    kind: str
    tokenizer_fingerprint: str
    tokenizer_path: Path


def save_prior(
    folder: Path | str, prior: Prior, tokenizer_fingerprint: str, tokenizer_path: Path | str
) -> None:
    """Write ``prior`` to ``folder`` atomically, replacing what is there."""
    relative = os.path.relpath(Path(tokenizer_path).resolve(), Path(folder).resolve())
    config = {
        "kind": kind_of("prior", prior),
        "layout": prior.layout.to_json(),
        "params": dict(prior.params),
        "tokenizer": {"fingerprint": tokenizer_fingerprint, "path": Path(relative).as_posix()},
    }
    save_artifact(Path(folder), config, prior.tensors())


def load_prior(folder: Path | str) -> tuple[Prior, PriorInfo]:
    """The prior that ``save_prior`` wrote, on the CPU and in eval mode, and what is stored with it.

    Raises ``CorruptArtifactError`` for a folder that is not whole, ``ConfigError`` for a kind that is not
    registered.
    """
    folder = Path(folder)
    config, tensors = load_artifact(folder)
    try:
        layout = CodeLayout.from_json(config["layout"])
        spec = from_json(Spec, {"kind": config["kind"], "params": config["params"]})
        tokenizer = config["tokenizer"]
        info = PriorInfo(spec.kind, tokenizer["fingerprint"], (folder / tokenizer["path"]).resolve())
    except (KeyError, TypeError, InputError) as error:
        raise CorruptArtifactError(
            f"{folder / CONFIG}: does not describe a prior ({type(error).__name__}: {error}); save it again"
        ) from None
    try:
        prior: Prior = build("prior", spec, layout=layout)
    except ConfigError as error:
        raise ConfigError(f"{folder / CONFIG}: {error}") from None
    _check_tensors(folder / TENSORS, found=tensors, expected=prior.tensors())
    prior.load_tensors(tensors)
    if isinstance(prior, nn.Module):
        prior.eval()
    return prior, info


def _check_tensors(path: Path, found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    for name in expected.keys() | found.keys():
        is_there, should_be = (_described(tensors.get(name)) for tensors in (found, expected))
        if is_there != should_be:
            raise CorruptArtifactError(
                f"{path}: tensor '{name}' is {is_there}; its prior's is {should_be}; save it again"
            )


def _described(array: np.ndarray | None) -> str:
    return "missing" if array is None else f"{array.dtype} {array.shape}"

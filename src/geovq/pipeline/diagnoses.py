"""The stage that says which metric and which structure a model's frozen latents ask for."""

from __future__ import annotations

from pathlib import Path

from geovq.evaluation.latent_geometry import diagnose
from geovq.pipeline.arms import POST_HOC, tokens_of
from geovq.pipeline.autoencoders import load_latents, model_inputs, trained_autoencoder
from geovq.pipeline.context import Context
from geovq.storage.artifact import save_artifact


def diagnose_model(run: Context, name: str, seed: int) -> Path:
    """``geovq.evaluation.diagnose`` of the training latents of one of the run's models, as one artefact.

    The tokens are those of the first arm that is fitted on the model's frozen latents, the bits those of the
    run. No tensors: the configuration of the artefact holds ``Diagnosis.to_json()``.
    """
    tokens = next(
        tokens_of(arm, None) for arm in run.arms if arm.kind == POST_HOC and arm.config.model == name
    )

    def make(folder: Path, _: Path) -> None:
        latents = load_latents(run, name, seed)
        decoder = trained_autoencoder(run, name, seed).decoder
        found = diagnose(
            decoder,
            latents["train.mean"],
            latents["train.sigma"],
            tokens=tokens,
            bits=run.config.bits,
            seed=seed,
        )
        save_artifact(folder, {"kind": "diagnosis", "model": name, **found.to_json()}, {})

    inputs = {**model_inputs(run, name, seed), "tokens": list(tokens), "bits": run.config.bits}
    return run.stages.run("diagnosis", f"diagnoses/{name}/{seed}", inputs, make, arm=name, seed=seed)

"""What a run measured: reconstruction, rate and codebook use, kept as records and compared over seeds.

``diagnose`` says before any of that which metric and structure a trained autoencoder's latents ask for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geovq.evaluation.diagnosis import Diagnosis

if TYPE_CHECKING:
    from geovq.evaluation.latent_geometry import diagnose

__all__ = ["Diagnosis", "diagnose"]


def __getattr__(name: str) -> Any:
    # Reports read records and diagnoses without PyTorch, which making a diagnosis needs.
    if name == "diagnose":
        from geovq.evaluation.latent_geometry import diagnose

        return diagnose
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

"""From a trained VAE to codes after the fact and a decoder tuned on them: what each step takes.

    geovq run mnist-post-hoc --stop-after latents --out RUN
    python benchmarks/after_the_fact.py --run RUN

The steps are those of the recipe's arm residual+metric+tuned, by the public API. Writes
benchmarks/after_the_fact.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from geovq.config import RunConfig, from_json
from geovq.data import ImageSet, ImageSplits, chunks_of, load
from geovq.models.model import AutoencoderModel
from geovq.models.weights import load_arrays
from geovq.quantizers import ResidualQuantizer
from geovq.recipes.mnist_post_hoc import METRIC, TUNE
from geovq.registry import build, with_seed
from geovq.search import sample_rows
from geovq.seeding import set_threads, threads_wanted
from geovq.storage.artifact import load_artifact, read_json
from geovq.tokenizer import Autoencoder, LatentTokenizer, finetune, mean_pullback_map
from measuring import row, timed, write_figures

OUT = Path(__file__).with_suffix(".json")
N_CODES, N_LEVELS, BEAM = 256, 8, 16
TARGET_MINUTES = 12


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Time every step from a trained VAE to a tuned decoder.")
    parser.add_argument("--run", type=Path, required=True, help="folder of a mnist-post-hoc run")
    parser.add_argument("--seed", type=int, default=0, help="of the VAE, the codebooks and the tuning")
    arguments = parser.parse_args()
    run, seed = arguments.run, arguments.seed
    threads = threads_wanted()
    set_threads(threads)
    model, splits = trained_vae(run, seed)
    train = load_artifact(run / f"latents/vae/{seed}")[1]["train.mean"]
    some = train[sample_rows(len(train), METRIC.n_images, seed)]
    map_seconds, latent_map = timed(lambda: mean_pullback_map(model.decoder, some), 1)
    mapped = latent_map(torch.from_numpy(train)).numpy()
    quantizer = ResidualQuantizer(N_CODES, n_levels=N_LEVELS, beam=BEAM, random_state=seed)
    fit_seconds, _ = timed(lambda: quantizer.fit(mapped), 1)
    tokenizer = LatentTokenizer(
        model.encoder,
        model.decoder,
        quantizer.as_module(),
        image_shape=splits.image_shape,
        latent_shape=model.latent_shape,
        tokens=(1, 1),
        latent_map=latent_map,
    )
    code_seconds, codes = timed(lambda: codes_of(tokenizer, splits.train), 1)
    tune_seconds, (tuned, result) = timed(
        lambda: finetune(tokenizer, splits.train, splits.validation, TUNE, train_codes=codes, seed=seed), 1
    )
    seconds = (map_seconds, fit_seconds, code_seconds, tune_seconds)
    continuous = Autoencoder(model.encoder, model.decoder, splits.image_shape)
    tuned_error, error, floor = (
        squared_error(each, splits.validation) for each in (tuned, tokenizer, continuous)
    )
    rows = [
        row(f"mean_pullback_map, {len(some):,} latents", map_seconds, "s"),
        row(f"ResidualQuantizer.fit, {len(train):,} latents", fit_seconds, "s"),
        row(f"LatentTokenizer.encode, {len(splits.train):,} images", code_seconds, "s"),
        row(f"finetune, {result.epochs} epochs, decoder and codebook", tune_seconds, "s"),
        row("all of them", sum(seconds) / 60, "min", TARGET_MINUTES),
        row("validation MSE, codes and tuned decoder", tuned_error, ""),
        row("  the same codes, decoder and codebook not tuned", error, ""),
        row("  the VAE without quantization", floor, ""),
    ]
    write_figures(
        OUT,
        title="After the fact, from a trained VAE to tuned codes",
        about=(
            f"VAE of mnist-post-hoc (32 dimensions, 64-128 channels, seed {seed}), its stored posterior "
            f"means, {N_LEVELS} levels of {N_CODES} with beam {BEAM} in the mean pull-back metric. Each step "
            f"once; tuning finds the codes of {len(splits.validation):,} validation images first. MSE over "
            "all of them."
        ),
        command="python benchmarks/after_the_fact.py --run RUN",
        threads=threads,
        rows=rows,
    )


def trained_vae(run: Path, seed: int) -> tuple[AutoencoderModel, ImageSplits]:
    """The VAE of a run's folder, and the images that the run is on."""
    folder = run / f"checkpoints/vae/{seed}"
    if not folder.is_dir():
        sys.exit(
            f"{folder} not found; run `geovq run mnist-post-hoc --stop-after latents` and give its folder"
        )
    config = from_json(RunConfig, read_json(run / "config.json"))
    splits = load(config.data)
    spec = with_seed("model", config.models["vae"].spec, seed)
    model: AutoencoderModel = build("model", spec, image_shape=splits.image_shape)
    load_arrays(model, load_artifact(folder)[1])
    return model.eval(), splits


def codes_of(tokenizer: LatentTokenizer, images: ImageSet) -> np.ndarray:
    """Codes (N, S) of a whole image set."""
    return np.concatenate([tokenizer.encode(images.images(rows)) for rows in chunks_of(images)])


def squared_error(autoencoder: Autoencoder, images: ImageSet) -> float:
    """Mean over all pixels of a whole image set."""
    total = 0.0
    for rows in chunks_of(images):
        pixels = images.images(rows)
        total += float(np.square(autoencoder.reconstruct(pixels) - pixels).sum(dtype=np.float64))
    return total / (len(images) * np.prod(images.shape))


if __name__ == "__main__":
    main()

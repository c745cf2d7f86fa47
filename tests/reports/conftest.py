"""A small but complete run folder: real digits, principal-component reconstructions, invented records."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from geovq.evaluation.records import Record, metrics_json
from geovq.seeding import numpy_generator
from geovq.storage.artifact import save_artifact
from geovq.storage.atomic import write_json

SEEDS = (0, 1, 2)
N_TEST, N_VALIDATION = 300, 200
KINDS = {
    "continuous": "floor",
    "kmeans": "post-hoc",
    "residual": "post-hoc",
    "residual+tuned": "post-hoc",
    "ema": "end-to-end",
}
MSE = {"continuous": 0.0061, "kmeans": 0.0191, "residual": 0.0142, "residual+tuned": 0.0103, "ema": 0.0127}
COMPONENTS = {"continuous": 16, "kmeans": 4, "residual": 6, "residual+tuned": 9, "ema": 8}
LEVELS = {"graph": 255, "line": 200, "blend": 150}  # white of the images along each kind of path
CODED = [arm for arm in KINDS if arm != "continuous"]


def make_records(mse=MSE, seeds=SEEDS, noise=0.0002, bits=24):
    """Records of every arm and seed; ``noise`` is the spread of test errors over seeds."""
    records = []
    for arm, error in mse.items():
        for seed in seeds:
            draw = numpy_generator(seed, f"records/{arm}")
            for split, n in (("validation", N_VALIDATION), ("test", N_TEST)):
                measured = error + noise * draw.standard_normal()
                values = {
                    "mse": measured,
                    "psnr": -10 * np.log10(measured),
                    "ssim": 1 - 12 * measured,
                    "bce_nats": 14 + 300 * measured,
                }
                if arm != "continuous":
                    values |= {
                        "bits_nominal": 24.0,
                        "bits_entropy": 20.5 + draw.random(),
                        "utilization": 0.9 + 0.1 * draw.random(),
                        "perplexity": 180 + 20 * draw.random(),
                        "dead_codes": float(draw.integers(0, 9)),
                        "latent_distortion": 80 * measured,
                    }
                if arm in ("residual+tuned", "ema"):
                    values |= {
                        "bits_prior": 17 + draw.random(),
                        "prior_bits_per_token": 5.9,
                    }
                records.append(Record(arm, None if arm == "continuous" else bits, seed, split, n, values))
    return records


def make_config(seeds=SEEDS):
    """The configuration of the invented run, as JSON."""
    train = {"epochs": 8, "batch_size": 64}
    quantizer = {"kind": "kmeans", "params": {"n_codes": 256}}
    arms = [
        {"name": arm, "model": "vae", "tokens": [1, 3], "quantizer": quantizer, "tune": None}
        for arm in ("kmeans", "residual")
    ]
    arms.append({"name": "ema", "model": "vqvae", "tokens": [1, 3], "quantizer": None, "tune": None})
    return {
        "recipe": "digits",
        "data": {"source": "digits", "image_size": 0, "channels": 0},
        "bits": 24,
        "models": {
            name: {"spec": {"kind": name, "params": {"width": 16}}, "train": train}
            for name in ("vae", "vqvae")
        },
        "arms": arms,
        "prior": {"spec": {"kind": "transformer", "params": {}}, "train": train},
        "seeds": list(seeds),
    }


def make_info(kinds=KINDS):
    """The content of run.json."""
    arms = {
        arm: {
            "kind": kind,
            "parameters": 48_213 if kind != "end-to-end" else 48_981,
            "image_passes": 13.0,
            "configurations_tried": 4,
            "about": f"{arm} of the digits",
        }
        for arm, kind in kinds.items()
    }
    return {
        "schema": 1,
        "command": "geovq run digits --out runs/digits",
        "versions": {"geovq": "0.1.0", "torch": "2.13.0"},
        "data": {
            "name": "digits",
            "fingerprint": "5f1e0c" * 10,
            "image_shape": [1, 8, 8],
            "n": {"train": 1297, "validation": N_VALIDATION, "test": N_TEST},
        },
        "arms": arms,
        "best_arms": ["residual+tuned", "ema"],
    }


def write_log(path: Path, seeds=SEEDS):
    """A long-form training log of two models."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "seed", "epoch", "split", "name", "value"])
        for model in ("vae", "vqvae"):
            for seed in seeds:
                for epoch in range(8):
                    for split, gap in (("train", 0.0), ("validation", 0.6)):
                        loss = 18 + 9 * 0.6**epoch + gap + 0.2 * seed
                        writer.writerow([model, seed, epoch, split, "total", f"{loss:.6f}"])
                        writer.writerow([model, seed, epoch, split, "bce_nats", f"{loss - 2:.6f}"])


def write_images(folder: Path, arms=KINDS, seed=0):
    """Evaluation and sample artefacts from digits and their principal components."""
    digits = load_digits().images / 16
    fitted, held_out = digits[:1000].reshape(1000, 64), digits[1000:1100].reshape(100, 64)
    for arm in arms:
        model = PCA(COMPONENTS.get(arm, 5), svd_solver="full").fit(fitted)
        decoded = model.inverse_transform(model.transform(held_out))
        worst = np.argsort(-((decoded - held_out) ** 2).sum(1))[:12]
        tensors = {
            "originals": held_out[:12],
            "reconstructions": decoded[:12],
            "worst_originals": held_out[worst],
            "worst_reconstructions": decoded[worst],
        }
        tensors = {name: as_bytes(images) for name, images in tensors.items()}
        draw = numpy_generator(seed, f"images/{arm}")
        if arm != "continuous":
            counts = draw.multinomial(900, draw.dirichlet(np.full(256, 0.6)), size=3)
            counts[2, 128:] = -1
            tensors["usage_counts"] = counts.astype(np.int64)
        rate = "continuous" if arm == "continuous" else "24"
        save_artifact(folder / "evaluation" / arm / rate / str(seed), {}, tensors)
        if arm in ("residual+tuned", "ema"):
            latents = model.transform(fitted)
            prior = model.inverse_transform(draw.permutation(latents)[:24])
            spread = draw.uniform(latents.min(0), latents.max(0), (24, latents.shape[1]))
            uniform = model.inverse_transform(spread)
            save_artifact(
                folder / "samples" / arm / rate / str(seed),
                {},
                {"prior": as_bytes(prior), "uniform": as_bytes(uniform)},
            )


def write_geometry(folder: Path, arm, seed=0, n_bridges=0):
    """Two paths between digits under the VAE, and clusters of one arm's tokens."""
    digits = load_digits().images[:4, None] / 16
    share = np.linspace(0, 1, 9)[:, None, None, None]
    straight = np.stack([(1 - share) * a + share * b for a, b in (digits[:2], digits[2:])])
    images = {kind: np.round(straight * level).astype(np.uint8) for kind, level in LEVELS.items()}
    pairs = [
        {
            "classes": [place, place + 5],
            "nodes": 6,
            "direct": 2.0,
            "lengths": {"graph": 5.0 + place, "line": 3.0},
            "recoded_mse": {"graph": 0.001, "line": 0.002, "blend": 0.01 + 0.01 * place},
        }
        for place in range(2)
    ]
    facts = {"n_images": 1000, "n_neighbors": 15, "n_bridges": n_bridges, "pairs": pairs}
    save_artifact(folder / "paths" / "vae" / str(seed), facts, images)
    draw = numpy_generator(seed, "clusters")
    labels = draw.integers(0, 10, 1000)
    tensors = {
        "coordinates": (draw.normal(size=(1000, 2)) + 4 * labels[:, None]).astype(np.float32),
        "geodesic": labels,
        "euclidean": np.where(draw.random(1000) < 0.2, (labels + 1) % 10, labels),
    }
    facts = {
        "n_clusters": 10,
        "edges": "euclidean",
        "agreement_ari": 0.6543,
        "geodesic_class_ari": 0.123,
        "euclidean_class_ari": 0.111,
    }
    save_artifact(folder / "clusters" / arm / "24" / str(seed), facts, tensors)


def as_bytes(images):
    return (np.clip(images, 0, 1) * 255).round().astype(np.uint8).reshape(-1, 1, 8, 8)


def make_run(folder: Path, records=None, info=None, images=True, seeds=SEEDS):
    """Write the whole run folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", make_config(seeds))
    write_json(folder / "metrics.json", metrics_json(records or make_records(seeds=seeds)))
    write_json(folder / "run.json", info or make_info())
    steps = (("train", "vae"), ("train", "vqvae"), ("quantize", "kmeans"), ("tune", "residual+tuned"))
    stages = [
        {"stage": stage, "arm": arm, "seed": seed, "seconds": 3.5 + seed, "peak_memory_mb": 310.0}
        for stage, arm in steps
        for seed in seeds
    ]
    write_json(
        folder / "cost.json",
        {"schema": 1, "stages": stages, "machine": {"cpu": "Example CPU", "cores": 2, "memory_gb": 8}},
    )
    write_log(folder / "train_log.csv", seeds)
    if images:
        arms = list((info or make_info())["arms"])
        write_images(folder, arms=arms)
        write_geometry(folder, next(arm for arm in arms if arm != "continuous"))
    return folder


@pytest.fixture
def build():
    """The functions that make a run folder and its parts."""
    return {
        "run": make_run,
        "records": make_records,
        "info": make_info,
        "geometry": write_geometry,
        "mse": MSE,
        "kinds": KINDS,
    }


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A complete run folder with its report; tests must not change it."""
    from geovq.reports import write_report

    folder = make_run(tmp_path_factory.mktemp("runs") / "digits")
    write_report(folder)
    return folder


@pytest.fixture(scope="session")
def finished_metrics(finished_run):
    return json.loads((finished_run / "metrics.json").read_text())

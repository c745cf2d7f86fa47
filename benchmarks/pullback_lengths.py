"""What decoder lengths cost: the neighbour graph of 60,000 latents measured through a trained decoder.

    geovq run mnist-first --stop-after latents --out RUN
    python benchmarks/pullback_lengths.py --run RUN

Whole graphs are measured once, samples of their edges five times, each method in turn. Writes
benchmarks/pullback_lengths.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import triu
from torch import Tensor, nn

from geovq.config import RunConfig, from_json
from geovq.geometry import ChordEdges, FisherEdges, Latents, PullbackEdges, knn_graph
from geovq.models.weights import load_arrays
from geovq.registry import build, with_seed
from geovq.seeding import numpy_generator, set_threads, threads_wanted
from geovq.storage.artifact import load_artifact, read_json
from measuring import posterior_means, row, timed, timed_in_turn, write_figures

OUT = Path(__file__).with_suffix(".json")
IMAGE_SHAPE = (1, 28, 28)
N_NEIGHBORS, N_RUNS = 15, 5
N_SAMPLED, N_ONE_BY_ONE, N_FULL_JACOBIANS, N_NODES = 20_000, 500, 64, 2_000
N_EXACT, N_PIECES = 2_000, 64  # edges whose lengths are compared with a polyline of many pieces
BATCH = 128


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Time lengths that need a decoder.")
    parser.add_argument("--run", type=Path, required=True, help="folder of a mnist-first run")
    arguments = parser.parse_args()
    threads = threads_wanted()
    set_threads(threads)
    latents = posterior_means(arguments.run / "latents/vae/0")
    decoder = trained_decoder(arguments.run)
    graph_seconds, graph = timed(lambda: triu(knn_graph(Latents(latents), N_NEIGHBORS), format="coo"), 1)
    starts, ends = graph.row, graph.col
    n_edges, n_latents = len(starts), len(latents)
    rows = [
        row(
            f"graph of {n_latents:,} latents, {N_NEIGHBORS} neighbours, Euclidean lengths", graph_seconds, "s"
        ),
        row("  edges", n_edges, ""),
        *whole_graph(decoder, latents, starts, ends),
        *rates(decoder, latents, starts, ends),
        *accuracy(decoder, latents, starts, ends),
    ]
    write_figures(
        OUT,
        title="Lengths through a decoder",
        about=(
            f"{n_latents:,} posterior means of 32 dimensions and the decoder of 64-128 channels, 28x28 "
            f"pixels, of the VAE of mnist-first. Whole graphs once; rates on samples, medians of {N_RUNS}, "
            "the methods in turn."
        ),
        command="python benchmarks/pullback_lengths.py --run RUN",
        threads=threads,
        rows=rows,
    )


def trained_decoder(run: Path) -> nn.Module:
    """The decoder of the run's VAE."""
    config = from_json(RunConfig, read_json(run / "config.json"))
    model = build("model", with_seed("model", config.models["vae"].spec, 0), image_shape=IMAGE_SHAPE)
    load_arrays(model, load_artifact(run / "checkpoints/vae/0")[1])
    return model.decoder.eval()


def whole_graph(
    decoder: nn.Module, latents: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> list[dict[str, Any]]:
    """Seconds for every edge, by kind, and the calls that they took."""
    rows = []
    for kind in (PullbackEdges, ChordEdges, FisherEdges):
        edges = kind(decoder, latents)
        seconds, _ = timed(lambda edges=edges: edges.lengths(Latents(latents), starts, ends), 1)
        target = 300 if kind is PullbackEdges else None
        rows += [
            row(f"{edges.name} lengths of all edges", seconds, "s", target),
            row("  Jacobian-vector products", edges.calls.jvps, ""),
            row("  latents decoded", edges.calls.decodes, ""),
        ]
    return rows


def rates(
    decoder: nn.Module, latents: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> list[dict[str, Any]]:
    """Edges a second of our products and of three others, and products a second for metric tensors."""
    chosen = numpy_generator(0, "edges").permutation(len(starts))[:N_SAMPLED]
    starts, ends = starts[chosen], ends[chosen]
    begin, end = torch.from_numpy(latents[starts]), torch.from_numpy(latents[ends])
    middle, step = (begin + end) / 2, end - begin
    edges = PullbackEdges(decoder, latents)
    methods: dict[str, tuple[int, Callable[[Tensor, Tensor], Tensor]]] = {
        "torch.func.jvp in the same batches": (N_SAMPLED, in_batches(decoder)),
        "torch.autograd.functional.jvp, an edge at a time": (N_ONE_BY_ONE, one_by_one(decoder)),
        "vmap of jacrev, the whole Jacobian": (N_FULL_JACOBIANS, by_whole_jacobians(decoder)),
    }
    calls = [
        lambda n=n, method=method: method(middle[:n], step[:n]).numpy() for n, method in methods.values()
    ]
    ours, *others = [lambda: edges.lengths(Latents(latents), starts, ends), *calls]
    seconds, results = timed_in_turn([ours, *others], N_RUNS)
    rate = N_SAMPLED / seconds[0]
    rows = [row(f"pullback, {N_SAMPLED:,} edges", rate, "edges/s")]
    for (name, (n, _)), spent, lengths in zip(methods.items(), seconds[1:], results[1:], strict=True):
        error = np.abs(lengths / results[0][:n] - 1).max()
        rows += [
            row(f"  {name}, {n:,} edges", n / spent, "edges/s"),
            row("    ours over it", rate * spent / n, "times"),
            row("    largest relative difference of lengths", error, ""),
        ]
    nodes = Latents(latents).take(numpy_generator(0, "nodes").permutation(len(latents))[:N_NODES])
    spent, _ = timed(lambda: edges.prepared(nodes), N_RUNS)
    n_products = N_NODES * latents.shape[1]
    return [*rows, row(f"metric tensors of {N_NODES:,} latents", n_products / spent, "JVPs/s")]


def in_batches(decoder: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """||J(m) dz|| of rows by ``torch.func.jvp``."""

    @torch.no_grad()
    def lengths(middle: Tensor, step: Tensor) -> Tensor:
        products = [
            torch.func.jvp(decoder, (points,), (tangents,))[1].flatten(1).norm(dim=1)
            for points, tangents in zip(middle.split(BATCH), step.split(BATCH), strict=True)
        ]
        return torch.cat(products)

    return lengths


def one_by_one(decoder: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """||J(m) dz|| of rows, one after the other, by two reverse passes."""

    def lengths(middle: Tensor, step: Tensor) -> Tensor:
        return torch.stack(
            [
                torch.autograd.functional.jvp(decoder, points[None], tangents[None])[1].norm()
                for points, tangents in zip(middle, step, strict=True)
            ]
        )

    return lengths


def by_whole_jacobians(decoder: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """||J(m) dz|| of rows, J from a reverse pass a pixel."""
    jacobian = torch.func.vmap(torch.func.jacrev(lambda z: decoder(z[None]).flatten()), chunk_size=4)

    @torch.no_grad()
    def lengths(middle: Tensor, step: Tensor) -> Tensor:
        return torch.einsum("epd,ed->ep", jacobian(middle), step).norm(dim=1)

    return lengths


def accuracy(
    decoder: nn.Module, latents: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> list[dict[str, Any]]:
    """How far lengths are from those of the straight segments, by a polyline of many pieces."""
    chosen = numpy_generator(0, "exact edges").permutation(len(starts))[:N_EXACT]
    starts, ends = starts[chosen], ends[chosen]
    points = Latents(latents)
    exact = ChordEdges(decoder, latents, N_PIECES).lengths(points, starts, ends)
    rows = []
    for name, edges in (
        ("pullback", PullbackEdges(decoder, latents)),
        ("chord", ChordEdges(decoder, latents)),
        ("chord of 4 segments", ChordEdges(decoder, latents, 4)),
        (f"chord of {N_PIECES // 2} segments", ChordEdges(decoder, latents, N_PIECES // 2)),
    ):
        ratio = edges.lengths(points, starts, ends) / exact
        low, median, high = np.quantile(ratio, [0.05, 0.5, 0.95])
        rows += [
            row(f"{name} over {N_PIECES} segments, median of {N_EXACT:,} edges", median, ""),
            row("  5 % quantile", low, ""),
            row("  95 % quantile", high, ""),
        ]
    return rows


if __name__ == "__main__":
    main()

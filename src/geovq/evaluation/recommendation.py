"""The rules by which measured latents get a metric and a structure, as one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geovq.evaluation.diagnosis import Diagnosis, PathsAgainstLines

FEWEST_BITS = 1.0
LEAST_GAIN = 0.05
AGREEMENT = 0.9
CHANGING_SHAPE = 0.3
BITS_OF_A_CODE = 8.0
GRAPH_HOLDS = 0.9
BENT = 0.05
FEW_DIMENSIONS = 4


def recommend(found: Diagnosis) -> str:
    """One sentence that names metric and structure, and the numbers that each rule used.

    Expected errors are those of a Gaussian under the mean metric (``geovq.evaluation.rate_distortion``): the
    sentence says what to try first, and only decoded images decide. The rules, in its order:

    - Fewer than ``FEWEST_BITS`` bits of KL, latents that are all equal or images that do not depend on them:
      do not quantize.
    - Metric: the mean pull-back metric if codes in it are expected to decode with at least ``LEAST_GAIN``
      less error than Euclidean ones, else Euclidean. The threshold is a convention: a Gaussian model of
      latents is not exact to a few percent.
    - Structure: codes of the whole latent if tokens coded apart are expected to have ``LEAST_GAIN`` more
      error; sites of a map are coded apart. A residual code where a token gets more than ``BITS_OF_A_CODE``
      bits: more than the 256 codes of the largest codebook in ``results/concepts/real-decoders.json``.
    - Precision: named as the metric that needs no decoder if it ranks dimensions as diag J'J does (Spearman's
      correlation of at least ``AGREEMENT``) and is expected to gain ``LEAST_GAIN`` as well. Kumar and Poole
      (ICML 2020) derive this agreement for the optimal diagonal posterior.
    - Assignment: codes chosen by the decoder at every point, if the shape of J'J changes from image to image
      by ``CHANGING_SHAPE`` or more. In ``real-decoders.json``, choosing the code whose image is nearest
      lowered the error of k-means codes at every size and dimension; the threshold itself is a convention.
    - Euclidean graph geodesics: worth a try where the graph ranks pairs of a flat Gaussian as straight lines
      do (by ``GRAPH_HOLDS`` at least: it does in up to 8 dimensions and does not in 16 in
      ``results/concepts/flat-space.json``) and those of the tokens less well by ``BENT`` (MNIST tokens of 4
      dimensions do as well as their Gaussian). In ``results/concepts/swiss-roll.json`` they gained with few
      codes; on decoders' latents, Euclidean ones never decoded better than their control.
    - Geodesics with the decoder's lengths: worth a try for whole latents of up to ``FEW_DIMENSIONS`` where
      J'J changes by ``CHANGING_SHAPE``, scale included: up to there medoids on them decoded better than
      k-means in ``real-decoders.json``. Otherwise graph geodesics are left out.
    """
    if found.total_bits is not None and found.total_bits < FEWEST_BITS:
        return (
            f"Do not quantize these latents: together they carry {found.total_bits:.2g} bits of KL an image; "
            "train the autoencoder with a smaller beta first."
        )
    if found.mean_metric_error is None:
        return "Do not quantize these latents: they, or the images decoded from them, are all the same."
    clauses = [f"Quantize {_metric(found)} with {_structure(found)}", _bits(found)]
    clauses += [_precision(found), _assignment(found), _geodesics(found)]
    return "; ".join(clause for clause in clauses if clause) + "."


def _metric(found: Diagnosis) -> str:
    assert found.mean_metric_error is not None
    spread = f"eigenvalues of E[J'J] spread {found.spread:,.0f}:1"
    if not _gains(found.mean_metric_error):
        less = f"expected gain of their metric {_less(found.mean_metric_error)}"
        return f"by Euclidean distance ({spread}, {less})"
    rank = f"effective rank {found.effective_rank:.1f} of {len(found.eigenvalues)}"
    less = f"expected to add {_less(found.mean_metric_error)} less decoded error than Euclidean codes"
    return f"in the mean pull-back metric ({spread}, {rank}, {less})"


def _structure(found: Diagnosis) -> str:
    height, width = found.tokens
    n_tokens = height * width
    grid = f"{height}x{width} tokens"
    bits = found.bits / n_tokens
    if found.apart_error is not None and _gains(1 / found.apart_error):
        apart = f"{grid} coded apart are expected to have {found.apart_error:.2f} times the error"
        return f"{_code(found.bits)} of the whole latent ({apart})"
    if n_tokens == 1:
        return f"{_code(found.bits)} of the whole latent"
    return f"{_code(bits)} of each of the {grid} ({bits:.3g} bits each)"


def _code(bits: float) -> str:
    return "residual codes" if bits > BITS_OF_A_CODE else "one code"


def _bits(found: Diagnosis) -> str:
    if found.total_bits is None:
        return ""
    n_active = f"{found.active_dimensions} of {found.latent_shape[0]}"
    active = f"{n_active} {'channels' if len(found.latent_shape) > 1 else 'dimensions'} are active"
    return f"{active}, with {found.total_bits:.3g} bits of KL in all for {found.bits:.3g} to spend"


def _precision(found: Diagnosis) -> str:
    assert found.mean_metric_error is not None
    across, error = found.precision_across, found.precision_error
    if across is None or error is None or across < AGREEMENT or not _gains(error):
        return ""
    return (
        "posterior precision is the alternative without a decoder (rank correlation with diag J'J across "
        f"dimensions {across:.3f}, expected to add {_less(error)} less)"
    )


def _assignment(found: Diagnosis) -> str:
    change = f"the shape of J'J changes by {100 * found.shape_change:.0f} % from image to image"
    if found.shape_change >= CHANGING_SHAPE:
        return f"choose codes by the decoder at every point ({change})"
    return f"assignment in one metric for all is enough ({change})"


def _geodesics(found: Diagnosis) -> str:
    paths = found.paths
    if paths is None:
        return ""
    if paths.flat_correlation >= GRAPH_HOLDS and paths.flat_correlation - paths.correlation >= BENT:
        bridges = f", though over {paths.n_bridges} bridges between its pieces" if paths.n_bridges else ""
        return f"try graph geodesics with few codes: paths follow straight lines {_ranks(paths)}{bridges}"
    whole = found.latent_shape == (paths.dim,)
    if whole and paths.dim <= FEW_DIMENSIONS and found.metric_change >= CHANGING_SHAPE:
        return (
            f"try graph geodesics with the decoder's lengths (in {paths.dim} dimensions J'J changes by "
            f"{100 * found.metric_change:.0f} % from image to image), not Euclidean ones: those follow "
            f"straight lines {_ranks(paths)}"
        )
    if paths.flat_correlation < GRAPH_HOLDS:
        return (
            f"leave out graph geodesics: in {paths.dim} dimensions the graph of {paths.n_points:,} points "
            f"misses straight lines even in flat space (rank correlation {paths.flat_correlation:.3f})"
        )
    return f"leave out graph geodesics: they follow straight lines {_ranks(paths)}"


def _ranks(paths: PathsAgainstLines) -> str:
    here, flat = f"{paths.correlation:.3f}", f"{paths.flat_correlation:.3f}"
    if paths.flat_correlation - paths.correlation >= BENT:
        return f"less closely ({here}) than those of a flat Gaussian ({flat})"
    return f"as closely ({here}) as those of a flat Gaussian ({flat})"


def _gains(relative_error: float) -> bool:
    return relative_error <= 1 - LEAST_GAIN


def _less(relative_error: float) -> str:
    return f"{100 * max(0.0, 1 - relative_error):.0f} %"

"""Arms whose edges a configuration names and a decoder measures."""

from pathlib import Path

import numpy as np
import pytest
import torch

from geovq.config import RunConfig, with_overrides
from geovq.data import load
from geovq.errors import ConfigError
from geovq.geometry import PullbackEdges
from geovq.models.cut import cut
from geovq.pipeline.checks import check_run
from geovq.pipeline.decoder_lengths import measure_with
from geovq.pipeline.run import run_recipe
from geovq.quantizers import GeodesicQuantizer, KMeansQuantizer
from geovq.storage.artifact import load_artifact
from geovq.tokenizer.latent import LatentTokenizer


def with_edges(config: RunConfig, edges: str, *more: str) -> RunConfig:
    return with_overrides(config, [f"arms.geodesic.quantizer.params.edges={edges}", "seeds=[0]", *more])


def test_an_arm_measures_with_the_decoder_of_its_model(
    small_run: Path, small_config: RunConfig, tmp_path: Path
) -> None:
    config = with_edges(small_config, "pullback")
    out = run_recipe(config, tmp_path / "run", reuse=[small_run], stop_after="tokenizers")
    folder = out / "tokenizers/geodesic/24/0"
    tokenizer = LatentTokenizer.from_pretrained(folder)
    latents = load_artifact(out / "latents/vae/0")[1]
    tokens = cut(torch.from_numpy(latents["train.mean"]), (2, 2)).flatten(0, 1).numpy()
    state = load_artifact(folder)[1]
    assert state["quantizer.node_metrics_"].shape == (len(state["quantizer.nodes_"]), 4, 4)
    # The metric of the first token, against the decoder's Jacobian there.
    node = int(np.flatnonzero((state["quantizer.nodes_"] == tokens[0]).all(1))[0])
    jacobian = torch.func.jacrev(lambda z: tokenizer.decoder(z[None]).flatten())(
        torch.from_numpy(latents["train.mean"][0])
    )[:, :4]
    expected = (jacobian.T @ jacobian).detach().numpy()
    np.testing.assert_allclose(state["quantizer.node_metrics_"][node], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("edges", ["chord", "pullback", "fisher"])
@pytest.mark.parametrize("kind", ["geodesic", "landmark-geodesic"])
def test_named_edges_pass_the_checks_of_a_run(small_config: RunConfig, kind: str, edges: str) -> None:
    config = with_edges(small_config, edges, f"arms.geodesic.quantizer.kind={kind}")
    check_run(config, load(config.data))


def test_unknown_edges_are_refused_before_a_folder_is_made(small_config: RunConfig) -> None:
    config = with_edges(small_config, "pull-back")
    with pytest.raises(ConfigError, match="arm 'geodesic': unknown edges 'pull-back'; did you mean 'pull"):
        check_run(config, load(config.data))
    config = with_edges(small_config, "3")
    with pytest.raises(ConfigError, match=r"params.edges' is 3; expected text"):
        check_run(config, load(config.data))


def test_other_quantizers_stay_as_they_are() -> None:
    latents = np.zeros((10, 4), dtype=np.float32)
    for quantizer in (GeodesicQuantizer(edges="precision"), KMeansQuantizer()):
        before = quantizer.get_params()
        measure_with(quantizer, torch.nn.Identity(), latents)
        assert quantizer.get_params() == before
    named = GeodesicQuantizer(edges="pullback")
    measure_with(named, torch.nn.Identity(), latents)
    assert isinstance(named.edges, PullbackEdges)

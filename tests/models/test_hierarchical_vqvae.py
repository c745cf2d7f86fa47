"""VQ-VAE-2: what each level sees and gives, gradients everywhere, codes that decode to what training saw."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geovq.config import Spec
from geovq.errors import ConfigError
from geovq.models.conv import map_sides
from geovq.models.cut import cut, paste
from geovq.models.vqvae2 import VQVAE2, level_names
from geovq.models.weights import n_parameters
from geovq.registry import build, check
from geovq.seeding import seeded_weights, torch_generator
from geovq.vq import EMAVQ, FSQ, RotationVQ

LAYERS = {
    "vq": {"kind": "vq", "params": {"n_codes": 8}},
    "ema": {"kind": "ema", "params": {"n_codes": 8}},
    "rotation": {"kind": "rotation", "params": {"n_codes": 8}},
    "simvq": {"kind": "simvq", "params": {"n_codes": 8}},
    "cosine": {"kind": "cosine", "params": {"n_codes": 8}},
    "diveq": {"kind": "diveq", "params": {"n_codes": 8}},
    "optvq": {"kind": "optvq", "params": {"n_codes": 8}},
    "gumbel": {"kind": "gumbel", "params": {"n_codes": 8}},
    "manual": {"kind": "manual", "params": {"n_codes": 8}},
    "fsq": {"kind": "fsq", "params": {"levels": [5, 3]}},
    "lfq": {"kind": "lfq", "params": {}},
    "bsq": {"kind": "bsq", "params": {}},
    "residual": {
        "kind": "residual",
        "params": {"n_levels": 2, "layer": {"kind": "ema", "params": {"n_codes": 4}}},
    },
    "residual of one": {
        "kind": "residual",
        "params": {"n_levels": 1, "layer": {"kind": "ema", "params": {"n_codes": 4}}},
    },
    "product": {
        "kind": "product",
        "params": {"n_groups": 2, "layer": {"kind": "ema", "params": {"n_codes": 4}}},
    },
}
EMA = LAYERS["ema"]
RANDOM = {"kind": "ema", "params": {"n_codes": 8, "start": "random"}}


def images(n: int = 16, image_shape=(1, 16, 8)) -> torch.Tensor:
    return torch.rand(n, *image_shape, generator=torch_generator(0, "test"))


def made(layers, image_shape=(1, 16, 8), **params: object) -> VQVAE2:
    small = {"latent_dim": 4, "widths": [6], "blocks": 1, "layers": layers, **params}
    with seeded_weights(0, "test"):
        model: VQVAE2 = build("model", Spec("vqvae2", small), image_shape=image_shape)
    return model


def started(model: VQVAE2, image_shape=(1, 16, 8)) -> VQVAE2:
    """The model in eval mode, its codebooks started on a training batch."""
    with torch.no_grad():
        model.loss((images(16, image_shape),), torch_generator(0, "loss"))
    return model.eval()


def codes_of(model: VQVAE2, given: torch.Tensor) -> list[torch.Tensor]:
    return [level.quantized.codes for level in model.quantize(given)[0]]


@pytest.mark.parametrize(
    ("n_levels", "expected"),
    [
        (1, ("bottom",)),
        (2, ("top", "bottom")),
        (3, ("top", "middle", "bottom")),
        (4, ("top", "middle-1", "middle-2", "bottom")),
    ],
)
def test_levels_have_names_from_the_top_down(n_levels, expected):
    assert level_names(n_levels) == expected
    assert tuple(grid.name for grid in made([EMA] * n_levels, (1, 16, 16)).grids) == expected


@settings(max_examples=15, deadline=None)
@given(
    n_levels=st.integers(1, 3),
    n_widths=st.integers(1, 2),
    channels=st.integers(1, 3),
    height=st.integers(1, 2),
    width=st.integers(1, 3),
    blocks=st.integers(0, 2),
)
def test_images_of_any_sides_that_the_strides_divide_pass_through(
    n_levels, n_widths, channels, height, width, blocks
):
    factor = 2 ** (n_widths + n_levels - 1)
    shape = (channels, height * factor, width * factor)
    model = made([RANDOM] * n_levels, shape, widths=[5, 6][:n_widths], blocks=blocks)
    assert [(grid.height, grid.width) for grid in model.grids] == [
        (height * 2**level, width * 2**level) for level in range(n_levels)
    ]
    given = images(8, shape)
    levels, _ = model.quantize(given)
    for grid, (tokens, quantized) in zip(model.grids, levels, strict=True):
        assert tokens.shape == quantized.z_q.shape == (8, grid.height * grid.width, 4)
        assert quantized.codes.shape == (8, grid.height * grid.width)
    decoded = model.reconstruct(given)
    assert decoded.shape == given.shape
    assert ((decoded > 0) & (decoded < 1)).all()


def test_the_finest_map_has_a_token_for_the_pixels_of_all_strides():
    model = made([EMA, EMA], (3, 32, 32), widths=[6, 6])
    assert [(grid.name, grid.height, grid.width) for grid in model.grids] == [("top", 4, 4), ("bottom", 8, 8)]


@pytest.mark.parametrize("n_levels", [1, 2, 3])
@pytest.mark.parametrize("kind", LAYERS)
def test_reconstructions_are_decoded_from_codes_to_the_last_bit(kind, n_levels):
    model = started(made([LAYERS[kind]] * n_levels, latent_dim=2))
    given = images(6)
    with torch.no_grad():
        reconstructed = model.reconstruct(given)
        vectors = [
            grid.layer.lookup(codes) for grid, codes in zip(model.grids, codes_of(model, given), strict=True)
        ]
        assert torch.equal(model.decode(vectors), reconstructed)
    # Untrained, all latents are nearest to one of SimVQ's random codes.
    assert kind == "simvq" or any(len(c.flatten(0, 1).unique(dim=0)) > 1 for c in codes_of(model, given))


@pytest.mark.parametrize("n_levels", [1, 2, 3])
@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_reach_every_parameter_of_every_level(kind, n_levels):
    model = made([LAYERS[kind]] * n_levels, latent_dim=2, widths=[8], blocks=2)
    given = images(32)
    model.loss((given,), torch_generator(0, "start"))  # codebooks start on the first batch
    model.zero_grad()
    model.loss((given,), torch_generator(0, "loss"))["total"].backward()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", ["vq", "ema", "rotation", "fsq"])
def test_an_estimator_passes_gradients_from_a_level_to_those_above(kind):
    """Only the finest layer's loss: it reaches the head of the coarsest through the quantized tokens."""
    model = made([LAYERS[kind]] * 3, latent_dim=2)
    model.loss((images(),), torch_generator(0, "start"))
    model.zero_grad()
    _, state = model.quantize(images())
    state.square().sum().backward()
    of_top = [parameter.grad for parameter in model.heads[0].parameters()]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in of_top)


@pytest.mark.parametrize("n_levels", [2, 3])
def test_a_level_does_not_depend_on_the_layers_below(n_levels):
    model = started(made([EMA] * n_levels))
    before = codes_of(model, images())
    with torch.no_grad():
        for parameter in model.heads[-1].parameters():
            parameter.neg_()
    after = codes_of(model, images())
    assert all(torch.equal(old, new) for old, new in zip(before[:-1], after[:-1], strict=True))
    assert not torch.equal(before[-1], after[-1])


@pytest.mark.parametrize("changed", [0, 1])
def test_a_level_depends_on_the_codes_of_those_above(changed):
    model = started(made([EMA] * 3))
    before, _ = model.quantize(images())
    with torch.no_grad():
        model.grids[changed].layer.codebook.add_(5 * model.grids[changed].layer.codebook)
    after, _ = model.quantize(images())
    moved = [not torch.equal(old.tokens, new.tokens) for old, new in zip(before, after, strict=True)]
    assert moved == [level > changed for level in range(3)]


@pytest.mark.parametrize("n_levels", [1, 2, 3])
def test_the_decoder_uses_all_levels(n_levels):
    model = started(made([EMA] * n_levels))
    vectors = [level.quantized.z_q.detach() for level in model.quantize(images(4))[0]]
    whole = model.decode(vectors)
    for level in range(n_levels):
        other = [*vectors]
        other[level] = vectors[level] + 1
        assert ((model.decode(other) - whole).abs().amax((1, 2, 3)) > 1e-6).all(), level


def test_a_site_of_the_finest_level_changes_its_own_part_of_the_image():
    model = started(made([EMA], (1, 16, 16), blocks=0), (1, 16, 16))
    vectors = [level.quantized.z_q.detach() for level in model.quantize(images(2, (1, 16, 16)))[0]]
    moved = vectors[0].clone()
    moved[:, 0] += 1  # site (0, 0) writes pixels 0 to 2 of both sides
    change = (model.decode([moved]) - model.decode(vectors)).abs().amax((0, 1))
    assert (change[:3, :3] > 0).any()
    assert not change[3:].any()
    assert not change[:, 3:].any()


def test_the_terms_are_those_of_the_definition():
    model = started(made([EMA, {"kind": "vq", "params": {"n_codes": 4}}]))
    given = images()
    terms = model.loss((given,), torch_generator(0, "loss"))
    levels, state = model.quantize(given)
    error = (model.decoder(state).double() - given.double()).square().sum((1, 2, 3)).mean()
    commitment = 0.0
    for (tokens, _), grid in zip(levels, model.grids, strict=True):
        distances = (tokens[:, :, None] - grid.layer.codebook).double().square().sum(-1)
        squared = distances.min(-1).values.sum(1).mean().item()
        commitment += (0.25 if isinstance(grid.layer, EMAVQ) else 1.25) * squared
    assert terms["squared_error"].item() == pytest.approx(error.item(), rel=1e-5)
    assert terms["commitment"].item() == pytest.approx(commitment, rel=1e-4)
    assert terms["total"].item() == pytest.approx(error.item() + commitment, rel=1e-4)


def test_repeating_a_batch_leaves_the_terms():
    model = started(made([EMA, EMA]))
    once = model.loss((images(),), torch_generator(0, "loss"))
    thrice = model.loss((images().repeat(3, 1, 1, 1),), torch_generator(0, "loss"))
    for name in ("total", "squared_error", "commitment", "top.batch_perplexity", "bottom.batch_utilization"):
        assert thrice[name].item() == pytest.approx(once[name].item(), rel=1e-5), name


def test_what_layers_watch_is_named_after_their_levels():
    terms = made([EMA, EMA, EMA]).loss((images(),), torch_generator(0, "loss"))
    watched = {name.partition(".")[2] for name in terms if "." in name}
    assert "batch_perplexity" in watched
    names = {f"{level}.{stat}" for level in ("top", "middle", "bottom") for stat in watched}
    assert set(terms) == {"total", "squared_error", "commitment"} | names
    assert all(not terms[name].requires_grad for name in names)


def test_every_level_may_have_a_layer_of_its_own():
    layers = [EMA, LAYERS["rotation"], LAYERS["fsq"]]
    grids = made(layers, latent_dim=2).grids
    assert [type(grid.layer) for grid in grids] == [EMAVQ, RotationVQ, FSQ]
    assert [grid.layer.n_codes for grid in grids] == [(8,), (8,), (15,)]
    bits = sum(grid.height * grid.width * grid.layer.bits for grid in grids)
    assert bits == pytest.approx(2 * 3 + 8 * 3 + 32 * math.log2(15))


def test_layers_start_apart_and_follow_the_seed():
    books = [
        [grid.layer.codebook.clone() for grid in made([RANDOM] * 2, seed=seed).grids] for seed in (0, 0, 7)
    ]
    assert not torch.equal(*books[0])
    assert all(torch.equal(one, again) for one, again in zip(books[0], books[1], strict=True))
    assert not any(torch.equal(one, other) for one in books[0] for other in books[2])


def test_runs_of_neighbouring_seeds_share_no_draws():
    first, second = ([g.layer.codebook for g in made([RANDOM] * 3, seed=seed).grids] for seed in (0, 1))
    assert not any(torch.equal(one, other) for one in first for other in second)


def test_a_block_brings_as_many_weights_to_every_level_and_half():
    of_one = (9 * 6 * 6 + 6) + (6 * 6 + 6)
    for n_levels in (1, 2, 3):
        counts = [n_parameters(made([EMA] * n_levels, blocks=blocks)) for blocks in (0, 1, 4)]
        assert counts[1] - counts[0] == 2 * n_levels * of_one
        assert counts[2] - counts[1] == 3 * 2 * n_levels * of_one


@pytest.mark.parametrize(
    ("shape", "n_levels", "message"),
    [
        ((1, 12, 8), 3, r"images are 12x8; .* multiples of 8; .* fewer than 3 halvings: fewer"),
        ((1, 8, 12), 3, r"images are 8x12; .* multiples of 8"),
        ((1, 7, 8), 1, r"images are 7x8; .* multiples of 2"),
        ((1, 8, 8), 4, r"images are 8x8; .* multiples of 16"),
    ],
)
def test_sides_that_the_strides_do_not_divide_are_refused_with_both(shape, n_levels, message):
    with pytest.raises(ConfigError, match=message):
        made([EMA] * n_levels, shape)


def test_a_model_without_layers_is_refused():
    with pytest.raises(ConfigError, match="layers has 0 entries; expected one for every level, at least 1"):
        made([])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"blocks": -1}, r"widths are \[6\], latent_dim 4 and blocks -1; expected .* blocks of at least 0"),
        ({"widths": []}, r"widths are \[\], .*expected one channel count or more"),
        ({"widths": [6, 0]}, r"widths are \[6, 0\], .*all above 0"),
        ({"latent_dim": 0}, r"latent_dim 0 and .*latent dimensions above 0"),
    ],
)
def test_impossible_sizes_are_refused(params, message):
    with pytest.raises(ConfigError, match=message):
        made([EMA, EMA], **params)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([EMA, {"params": {}}], r"key 'layers\.1\.kind' is missing"),
        ([{"kind": "emma", "params": {}}, EMA], "unknown layer 'emma'; did you mean 'ema'"),
        ([EMA, {"kind": "ema", "params": {"n_code": 8}}], "unknown parameter of layer 'ema' 'n_code'"),
        ([EMA, {"kind": "ema", "params": {"n_codes": 8, "dim": 4}}], "parameter of layer 'ema' 'dim'"),
    ],
)
def test_a_layer_is_checked_with_its_path(layers, message):
    with pytest.raises(ConfigError, match=message):
        made(layers)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"layers": EMA}, r"params\.layers"),
        ({"layers": [3]}, r"params\.layers\.0"),
        ({"layer": EMA}, "unknown parameter of model 'vqvae2' 'layer'; did you mean 'layers'"),
        ({"layers": [EMA], "blocks": 1.5}, r"params\.blocks"),
    ],
)
def test_a_config_is_checked_before_anything_is_built(params, message):
    with pytest.raises(ConfigError, match=message):
        check("model", Spec("vqvae2", params), ("image_shape",))


def test_the_sides_of_a_map_are_those_of_the_strided_convolutions():
    assert map_sides((3, 32, 48), 3) == (4, 6)
    assert map_sides((3, 5, 7), 0) == (5, 7)


def test_tokens_are_the_sites_of_the_map_in_row_order():
    """What the decoder of one level takes is the map whose sites are the tokens."""
    model = started(made([EMA], blocks=0))
    levels, state = model.quantize(images(3))
    grid = model.grids[0]
    assert torch.equal(cut(state, (grid.height, grid.width)), levels[0].quantized.z_q)
    assert torch.equal(paste(levels[0].quantized.z_q, state.shape[1:]), state)

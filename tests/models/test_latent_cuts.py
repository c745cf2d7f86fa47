"""Cutting and pasting undo each other, and the order of tokens is the documented one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geovq.errors import ConfigError
from geovq.models.cut import cut, paste, token_dim

sides = st.integers(1, 4)


@given(n=st.integers(0, 3), height=sides, width=sides, dim=sides)
def test_pasting_undoes_cutting_a_flat_latent(n, height, width, dim):
    latent_dim = height * width * dim
    latents = torch.arange(n * latent_dim).reshape(n, latent_dim).float()
    tokens = cut(latents, (height, width))
    assert tokens.shape == (n, height * width, dim)
    assert torch.equal(paste(tokens, (latent_dim,)), latents)


@given(n=st.integers(0, 3), height=sides, width=sides, dim=sides)
def test_pasting_undoes_cutting_a_latent_map(n, height, width, dim):
    latents = torch.arange(n * height * width * dim).reshape(n, dim, height, width).float()
    tokens = cut(latents, (height, width))
    assert tokens.shape == (n, height * width, dim)
    assert torch.equal(paste(tokens, (dim, height, width)), latents)


def test_chunks_are_consecutive_dimensions():
    assert cut(torch.arange(6)[None], (1, 3)).tolist() == [[[0, 1], [2, 3], [4, 5]]]


def test_tokens_of_a_map_are_its_sites_row_by_row():
    latents = torch.arange(8).reshape(1, 2, 2, 2)
    assert cut(latents, (2, 2)).tolist() == [[[0, 4], [1, 5], [2, 6], [3, 7]]]


@pytest.mark.parametrize("grid", [(3, 2), (0, 4), (5, 5), (-1, -4)])
def test_an_uneven_cut_is_refused(grid):
    with pytest.raises(
        ConfigError, match=f"16 dimensions cannot be cut into {grid[0]}x{grid[1]} equal tokens"
    ):
        token_dim((16,), grid)


def test_a_map_is_cut_into_its_sites_alone():
    assert token_dim((4, 7, 7), (7, 7)) == 4
    with pytest.raises(
        ConfigError, match="map of 7x7 sites cannot be cut into 2x4 tokens; expected one token a site"
    ):
        token_dim((4, 7, 7), (2, 4))

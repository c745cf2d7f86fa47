"""Residual blocks of convolutions, which deepen a network without changing the shape of what it computes."""

from __future__ import annotations

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """``x + conv1x1(relu(conv3x3(relu(x))))`` on maps (N, width, h, w).

    Source: van den Oord et al. 2017, section 4.1.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(width, width, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, kernel_size=1),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Maps in the shape of ``maps``."""
        return maps + self.layers(maps)


def residual_stack(width: int, n_blocks: int) -> list[nn.Module]:
    """``n_blocks`` blocks and the activation that ends them; nothing at all for no blocks."""
    return [*(ResidualBlock(width) for _ in range(n_blocks)), nn.ReLU()] if n_blocks else []

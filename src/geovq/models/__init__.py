"""Autoencoders: the continuous VAE and the VQ-VAE, of the same networks, and the hierarchical VQ-VAE-2."""

from geovq.models.model import AutoencoderModel, ImageModel
from geovq.models.vae import VAE
from geovq.models.vqvae import VQVAE
from geovq.models.vqvae2 import VQVAE2

__all__ = ["VAE", "VQVAE", "VQVAE2", "AutoencoderModel", "ImageModel"]

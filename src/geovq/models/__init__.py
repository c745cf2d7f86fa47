"""Autoencoders: the continuous VAE and the VQ-VAE, of the same encoder and decoder classes."""

from geovq.models.model import AutoencoderModel
from geovq.models.vae import VAE
from geovq.models.vqvae import VQVAE

__all__ = ["VAE", "VQVAE", "AutoencoderModel"]

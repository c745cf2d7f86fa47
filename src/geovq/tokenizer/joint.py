"""Encoder, code vectors and decoder of a tokenizer trained together, from where they stand.

A post-hoc codebook is fitted to latents that never change. Here the encoder may move them to where codes
serve the images better, and codebook and decoder follow: end-to-end training that starts from a trained
autoencoder and its codes instead of from nothing.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from geovq.config import TuneConfig
from geovq.data import ImageSet
from geovq.errors import InputError
from geovq.models.cut import cut
from geovq.quantizers import FittedQuantizer
from geovq.search import beam_search
from geovq.tokenizer.image_loss import image_loss
from geovq.tokenizer.latent import LatentTokenizer
from geovq.tokenizer.vectors import CodeVectors
from geovq.training import ImageSource, Progress, TrainingResult, fit

BEAM = 16  # partial sums kept where the codes of several levels are found
COMMITMENT = 1.5  # in the decoder's own unit: the best or close to it for several kinds of codes
N_MEASURED = 256  # images that the unit of the commitment is measured on


def tune_jointly(
    tokenizer: LatentTokenizer,
    train: ImageSet,
    validation: ImageSet,
    config: TuneConfig,
    *,
    seed: int,
    checkpoints: Path | None,
    progress: Progress | None,
) -> tuple[LatentTokenizer, TrainingResult]:
    """A tokenizer whose encoder, codebook and decoder are tuned together; ``tokenizer`` stays as it was.

    Latent map and rectifier stay as they are. Epoch 0 is the start with codes found by the code vectors; the
    tuned tokenizer finds its codes so, the nearest or by beam search, whatever found them before.

    Raises ``InputError`` if the codes take more than a latent and their vectors to find, or have levels of
    different sizes.
    """
    _check(tokenizer)
    model = JointModel(tokenizer, train, config)
    result = fit(
        model,
        ImageSource(train),
        ImageSource(validation),
        config,
        seed=seed,
        identity=tokenizer.fingerprint,
        checkpoints=checkpoints,
        progress=progress,
    )
    return model.tokenizer(), result


class JointModel(nn.Module):
    """A tokenizer from images to images: its encoder, code vectors and decoder, copied and trainable.

    At every step the codes are found anew, with the encoder and the vectors as they are then, as the tuned
    tokenizer will find them. ``z_q = e + z - sg(z)`` passes the gradient of the image's loss to the vectors
    ``e``, which is exact, and straight through to the latents ``z``.

    Both would then move alike, and nothing would keep ``z`` near ``e``: from a good start the latents run
    away from their codes. ``COMMITMENT * unit * |z - sg(e)|^2``, summed over a latent as the image's loss is
    over an image, keeps them. Its ``unit`` is what the decoder makes of a unit of that distance before
    tuning, the loss between the images of ``e`` and of ``z``: latents have any scale, and a commitment much
    too light lets them run, one much too heavy pins them to the codes they have. It acts in training alone:
    epochs are compared by the image's loss.

    Source: van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning" (2017), equation 3,
    with code vectors that learn from the reconstruction instead of from their distance to the latents.
    """

    unit: Tensor

    def __init__(self, tokenizer: LatentTokenizer, images: ImageSet, config: TuneConfig) -> None:
        super().__init__()
        self.loss_name = config.loss
        parts: dict[str, nn.Module] = {
            "encoder": tokenizer.encoder,
            "decoder": tokenizer.decoder,
            "vectors": tokenizer.vectors or CodeVectors.of(tokenizer.quantizer),
        }
        # Copies, and trainable ones, although a frozen autoencoder's halves may well be frozen.
        self.parts = nn.ModuleDict(
            {name: copy.deepcopy(part).requires_grad_(True) for name, part in parts.items()}
        )
        fixed = {"latent_map": tokenizer.latent_map, "rectifier": tokenizer.rectifier}
        self.fixed = nn.ModuleDict(
            {
                name: copy.deepcopy(part).requires_grad_(False)
                for name, part in fixed.items()
                if part is not None
            }
        )
        # In a tuple, where no module looks: its parts are this module's own.
        self._tokenizer = (tokenizer.changed(**self.parts, **self.fixed),)
        self.register_buffer("unit", self._measured(images))

    def tokenizer(self) -> LatentTokenizer:
        """The tokenizer as it is tuned so far, which finds codes by its tuned vectors."""
        return self._tokenizer[0].changed(quantizer=quantizer_of(self._vectors), vectors=None)

    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
        """Loss of images (N, C, H, W), its ``mse`` over pixels, and their latents' ``distortion``."""
        (images,) = batch
        tokens, vectors = self._tokens_and_vectors(images)
        decoded = self._tokenizer[0].decode_tokens(vectors + (tokens - tokens.detach()))
        terms = image_loss(decoded, images, self.loss_name)
        terms["distortion"] = _distortion(tokens, vectors.detach())
        if self.training:
            terms["total"] = terms["total"] + COMMITMENT * self.unit * terms["distortion"]
        return terms

    @property
    def _vectors(self) -> CodeVectors:
        vectors = self.parts["vectors"]
        assert isinstance(vectors, CodeVectors)
        return vectors

    def _tokens_and_vectors(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (N, T, d) of images, and the vectors of their codes, likewise."""
        tokenizer = self._tokenizer[0]
        latents, _ = tokenizer._encode(images)
        if tokenizer.latent_map is not None:
            latents = tokenizer.latent_map(latents)
        tokens = cut(latents, tokenizer.tokens)
        codes = beam_search(tokens.detach().flatten(0, 1), [*self._vectors.levels], BEAM)
        return tokens, self._vectors(codes.reshape(*tokens.shape[:2], -1))

    @torch.no_grad()
    def _measured(self, images: ImageSet) -> Tensor:
        """Loss between the images of codes and of latents for every unit of their distance."""
        first = torch.from_numpy(images.images(slice(0, N_MEASURED)))
        tokens, vectors = self._tokens_and_vectors(first.to(next(self.parameters()).device))
        distortion = _distortion(tokens, vectors)
        if not distortion > 0:
            raise InputError(
                f"all latents of the first {len(first)} training images lie on the vectors of their codes; "
                "expected latents that lose something by their codes; there is nothing to tune jointly"
            )
        of_latents, of_codes = (self._tokenizer[0].decode_tokens(each) for each in (tokens, vectors))
        # Cross-entropy is not 0 between equal images; it is smallest there.
        least = image_loss(of_latents, of_latents, self.loss_name)["total"]
        return (image_loss(of_codes, of_latents, self.loss_name)["total"] - least) / distortion


def quantizer_of(vectors: CodeVectors) -> FittedQuantizer:
    """A quantizer that finds codes by the vectors themselves: the nearest, or by beam search over levels.

    Raises ``InputError`` if the levels have different sizes.
    """
    return FittedQuantizer.of_codebook([level.detach().cpu().numpy() for level in vectors.levels], beam=BEAM)


def _distortion(tokens: Tensor, vectors: Tensor) -> Tensor:
    """Squared distance of a latent from its codes, summed over a latent and averaged over latents."""
    return (tokens - vectors).square().flatten(1).sum(1).mean()


def _check(tokenizer: LatentTokenizer) -> None:
    quantizer = tokenizer.quantizer
    if isinstance(quantizer, FittedQuantizer) and quantizer.uses_sigma:
        raise InputError(
            f"parts is 'all', and codes of quantizer '{quantizer.kind}' are found with sigma, which tuning "
            "leaves behind; expected codes found by the latent alone; set parts to 'decoder+codebook'"
        )
    if len(set(quantizer.n_codes)) > 1:
        raise InputError(
            f"parts is 'all', and codes have levels of {list(quantizer.n_codes)} codes; codes are found anew "
            "in levels of one size alone; set parts to 'decoder+codebook'"
        )

"""Images to codes and back: layouts, tokenizers, decoder fine-tuning."""

from geovq.tokenizer.autoencoder import Autoencoder
from geovq.tokenizer.codes import StoredCodes, load_codes, save_codes
from geovq.tokenizer.finetune import finetune_decoder
from geovq.tokenizer.latent import LatentTokenizer
from geovq.tokenizer.layout import CodeGrid, CodeLayout
from geovq.tokenizer.protocol import Tokenizer

__all__ = [
    "Autoencoder",
    "CodeGrid",
    "CodeLayout",
    "LatentTokenizer",
    "StoredCodes",
    "Tokenizer",
    "finetune_decoder",
    "load_codes",
    "save_codes",
]

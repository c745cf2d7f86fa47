"""Images to codes and back: layouts, tokenizers, decoder fine-tuning."""

from geovq.tokenizer.autoencoder import Autoencoder
from geovq.tokenizer.codes import StoredCodes, load_codes, save_codes
from geovq.tokenizer.finetune import finetune
from geovq.tokenizer.hierarchical import HierarchicalTokenizer
from geovq.tokenizer.latent import LatentTokenizer
from geovq.tokenizer.latent_map import LatentMap, mean_pullback_map
from geovq.tokenizer.layout import CodeGrid, CodeLayout
from geovq.tokenizer.loading import from_pretrained
from geovq.tokenizer.protocol import Tokenizer

__all__ = [
    "Autoencoder",
    "CodeGrid",
    "CodeLayout",
    "HierarchicalTokenizer",
    "LatentMap",
    "LatentTokenizer",
    "StoredCodes",
    "Tokenizer",
    "finetune",
    "from_pretrained",
    "load_codes",
    "mean_pullback_map",
    "save_codes",
]

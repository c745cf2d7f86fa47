"""Images to codes and back: layouts, tokenizers, decoder fine-tuning."""

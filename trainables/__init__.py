"""One trial: images in, a fine-tuned network and its metrics out."""

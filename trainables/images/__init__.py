"""Pixels: decoding, the pixel map, augmentation, batches."""

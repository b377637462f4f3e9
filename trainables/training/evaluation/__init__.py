"""Runs images without augmentation through a network, in batches that fit the memory."""

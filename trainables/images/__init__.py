"""Images: decoding, the pixel map, augmentation and batches."""

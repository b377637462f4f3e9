"""What keeps a network from learning its training images by heart, and what keeps it near good weights. Each part is off by default."""

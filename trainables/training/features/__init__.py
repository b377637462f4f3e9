"""Computes the activations behind a trial's frozen stages once for all trials of a node."""

"""Preparing and checking the nodes of a cluster before trials start there."""

"""Labelled images: reading sources and labels, splitting, preparing a data set."""

"""Data sets: sources and labels, splits, duplicates, the prepared data set and its manifest."""

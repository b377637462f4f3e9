"""Where files are kept: folders, buckets, and the node's cache."""

"""Presets of a search: one readable YAML file each, and the function that reads them."""

"""Estimates of time, disk and memory, before and during a search."""

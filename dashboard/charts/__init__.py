"""Figures, from DataFrames."""

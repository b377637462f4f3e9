"""Records as DataFrames."""

"""DataFrames as figures."""

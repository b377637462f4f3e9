"""DataFrames, from the records of studies."""

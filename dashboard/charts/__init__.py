"""Functions that turn the DataFrames of `dashboard.data` into Plotly figures."""

"""Functions that turn the records of studies into DataFrames and texts. They use neither Streamlit nor Plotly."""

"""The screens, one file each. Streamlit runs them as scripts."""

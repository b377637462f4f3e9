"""A web dashboard of studies, with Streamlit. It reads only their records, and writes commands and notes if it is allowed to."""

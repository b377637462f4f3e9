"""A search of many trials: proposes, runs and stops them, and records and shows their results."""

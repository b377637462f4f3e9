"""The record of a search: Optuna storage, its single writer, its readers."""

"""The record of a search in Optuna storage: its single writer and its readers."""

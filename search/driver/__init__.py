"""The process that runs a search: Ray Tune, the bridge to Optuna, retries, commands, results."""

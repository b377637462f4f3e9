"""Training one network: the loop, optimizers, tasks, checkpoints, diagnostics."""

"""Training one network: the trainer, the loop, optimizers, tasks, checkpoints, diagnostics, export."""

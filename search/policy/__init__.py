"""What to try next, what to try again, and when to stop: samplers, faults, rungs and schedulers, budgets and the stop condition."""

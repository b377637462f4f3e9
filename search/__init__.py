"""Many trials: what to try, on what budget, what came of it."""

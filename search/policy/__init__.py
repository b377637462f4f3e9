"""What to try next and when to stop: samplers, rungs, stop conditions."""

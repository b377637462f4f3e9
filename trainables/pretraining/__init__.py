"""Trains the built-in backbone weights on images drawn by formula: fractals, pattern networks and dead leaves."""

"""Backbone weights learned from images made by formula: fractals, pattern networks and dead leaves."""

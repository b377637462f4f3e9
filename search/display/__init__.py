"""Showing a search: live terminal view, status, JSON lines, summary."""

"""How a search is shown: live terminal view, status, JSON lines, summary."""

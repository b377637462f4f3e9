"""Shows studies in the browser. It reads only their records."""

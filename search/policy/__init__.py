"""The decisions of a search: what to try next, what to try again, which trials to stop, and when the search ends."""

"""What a search may vary: parameters, their conditions, and how a proposal becomes a trial configuration."""

"""A realtime model to try a bridge with: refuses what the real one refuses, says what its script says."""

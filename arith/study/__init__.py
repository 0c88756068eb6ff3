"""What one does with an engine: sweeps on disk, scores of their texts, frontiers, explanations."""

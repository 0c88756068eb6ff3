"""Models made ready for training: weights, precision, adapters."""

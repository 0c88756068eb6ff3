"""Sweeps: the points of parameters that one call runs, and their rows."""

"""Drafting tokens and checking them many at a time."""

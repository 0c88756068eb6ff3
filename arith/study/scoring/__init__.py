"""Scorers: what turns the texts of results into numbers."""

"""The comparisons, one a file: each yields its figures, as they are measured."""

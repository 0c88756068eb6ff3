"""Text that guards reject, and rows that take it back."""

"""Explaining text: what each operand said of every token, and what it added to the formula."""

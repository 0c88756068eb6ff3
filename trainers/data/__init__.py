"""Preference data: from files and the hub to token ids, as an operand reads its prompts."""

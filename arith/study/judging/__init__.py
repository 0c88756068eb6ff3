"""Answers compared in pairs by a language model behind an OpenAI-compatible endpoint."""

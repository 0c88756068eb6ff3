"""Prompts as a reader sees them."""

import json


def prompt_text(prompt: object) -> str:
    """A prompt as a reader sees it: a text, or the messages one under the other."""
    if isinstance(prompt, dict):
        return prompt_text(prompt["prompt"])
    if isinstance(prompt, list):
        return "\n".join(f"{message['role']}: {_content(message['content'])}" for message in prompt)
    return str(prompt)


def _content(content: object) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)

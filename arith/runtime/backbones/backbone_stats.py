"""What a backbone has run so far."""

from dataclasses import dataclass


@dataclass
class BackboneStats:
    """Counts since the last `reset`. `tokens_run` includes padding, `tokens_useful` doesn't."""

    forwards: int = 0
    tokens_run: int = 0
    tokens_useful: int = 0

    def add(self, tokens_run: int, tokens_useful: int) -> None:
        """Count one forward."""
        self.forwards += 1
        self.tokens_run += tokens_run
        self.tokens_useful += tokens_useful

    def reset(self) -> None:
        self.forwards = self.tokens_run = self.tokens_useful = 0

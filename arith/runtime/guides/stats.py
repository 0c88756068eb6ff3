"""What the model of a guide has run so far."""

from dataclasses import dataclass


@dataclass
class GuideStats:
    """Counts since the last `reset`; guides of one model share them.

    texts_run: texts that went through the model, extensions by one token included.
    cache_hits: texts that needed no run, because an equal one had run.
    """

    forwards: int = 0
    texts_run: int = 0
    cache_hits: int = 0

    def reset(self) -> None:
        self.forwards = self.texts_run = self.cache_hits = 0

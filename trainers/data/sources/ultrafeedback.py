"""UltraFeedback, binarized: message lists of which the better scored one is chosen.

Source: Cui et al. 2023, "UltraFeedback", arXiv 2310.01377; `HuggingFaceH4/ultrafeedback_binarized`.
"""

from trainers.data.example import Example
from trainers.data.sources.preference import PREFERENCE
from trainers.data.sources.row import Row, SkippedRow
from trainers.data.sources.source import Source

_SCORES = ("score_chosen", "score_rejected")


def read_ultrafeedback(row: Row) -> Example:
    """The pair of the message lists, which begin with the prompt, unless both have the same score."""
    if all(row.has(score) for score in _SCORES):
        chosen, rejected = (row.number(score) for score in _SCORES)
        if chosen == rejected:
            raise SkippedRow("both answers have the same score")
    return PREFERENCE.read(row)


ULTRAFEEDBACK = Source(
    description="HuggingFaceH4/ultrafeedback_binarized: chosen and rejected message lists, with scores",
    pairs=(("prompt", "chosen", "rejected"),),
    read=read_ultrafeedback,
    optional=_SCORES,
)

"""The formats that preference data comes in, by name."""

from trainers.data.keys import SourceName
from trainers.data.sources.alpaca_eval import ALPACA_EVAL
from trainers.data.sources.hh import HH, HH_TRANSCRIPT
from trainers.data.sources.preference import PREFERENCE
from trainers.data.sources.row import Row, SkippedRow
from trainers.data.sources.safe_rlhf import SAFE_RLHF_HARMLESS, SAFE_RLHF_HELPFUL
from trainers.data.sources.source import Source
from trainers.data.sources.ultrafeedback import ULTRAFEEDBACK

SOURCES: dict[SourceName, Source] = {
    "preference": PREFERENCE,
    "hh": HH,
    "hh_transcript": HH_TRANSCRIPT,
    "safe_rlhf_helpful": SAFE_RLHF_HELPFUL,
    "safe_rlhf_harmless": SAFE_RLHF_HARMLESS,
    "ultrafeedback": ULTRAFEEDBACK,
    "alpaca_eval": ALPACA_EVAL,
}

__all__ = ["SOURCES", "Row", "SkippedRow", "Source"]

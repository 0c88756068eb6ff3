"""PKU-SafeRLHF: two responses, one labelled as the more helpful, and one as the safer.

Source: Dai et al. 2023, "Safe RLHF", arXiv 2310.12773, and Ji et al. 2024, "PKU-SafeRLHF", arXiv 2406.15513.
The first release (`PKU-Alignment/PKU-SafeRLHF-10K`) and the newer one, which adds sources, harm categories
and severity levels, have these columns in common.
"""

from trainers.data.example import Example
from trainers.data.sources.row import Row
from trainers.data.sources.source import Source

_RESPONSES = ("response_0", "response_1")


def labelled(label: str) -> Source:
    """The source in which the column `label` says which response is the chosen one."""

    def read(row: Row) -> Example:
        if not row.has(label) or row.number(label) not in (0, 1):
            raise row.wrong(label, "must be 0 or 1")
        better = int(row.number(label))
        responses = [row.text(column) for column in _RESPONSES]
        return Example(row.text("prompt"), responses[better], responses[1 - better], row.place)

    meaning = "the more helpful" if label == "better_response_id" else "the safer"
    return Source(
        description=f"PKU-SafeRLHF, {meaning} response chosen (`{label}`)",
        pairs=(("prompt", *_RESPONSES, label),),
        read=read,
    )


SAFE_RLHF_HELPFUL = labelled("better_response_id")
SAFE_RLHF_HARMLESS = labelled("safer_response_id")

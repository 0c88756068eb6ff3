"""AlpacaEval's annotations: the outputs of two models, and which of them the annotator prefers.

Source: Li et al. 2023, "AlpacaEval", github.com/tatsu-lab/alpaca_eval.
"""

from trainers.data.example import Example
from trainers.data.sources.row import Row, SkippedRow
from trainers.data.sources.source import Source

_DRAWS = (0, 1.5)  # 0 in older annotations


def read_alpaca_eval(row: Row) -> Example:
    """`preference` is 1 or 2, or between them the probability of the second output on top of 1."""
    if not row.has("preference"):
        raise SkippedRow("the annotator gave no preference")
    preference = row.number("preference")
    if preference in _DRAWS:
        raise SkippedRow("the annotator sees a draw")
    if not 1 <= preference <= 2:
        raise row.wrong("preference", "must be 1 or 2, between them, or 0 for a draw")
    outputs = [row.text("output_1"), row.text("output_2")]
    chosen, rejected = outputs if preference < 1.5 else reversed(outputs)
    return Example(row.text("instruction"), chosen, rejected, row.place)


ALPACA_EVAL = Source(
    description="AlpacaEval's annotations: instruction, output_1, output_2, preference",
    pairs=(("instruction", "output_1", "output_2", "preference"),),
    read=read_alpaca_eval,
)

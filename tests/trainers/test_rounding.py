"""What rounding alone makes differ is no reason for the slower way of scoring."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from trainers.scoring import scorer as scoring

ROWS = [
    {"prompt_ids": [256, 10], "chosen_ids": [11, 12], "rejected_ids": [13], "index": 0},
    {"prompt_ids": [256, 20, 21], "chosen_ids": [22], "rejected_ids": [23, 24, 25], "index": 1},
]


@pytest.mark.parametrize(("off", "shared"), [(0.15, True), (0.25, False)])
def test_answers_side_by_side_may_be_off_by_what_the_plain_way_is_from_batch_to_batch(
    tiny_llama: str, monkeypatch: pytest.MonkeyPatch, off: float, shared: bool
) -> None:
    """A row alone is scored 0.1 nats a token higher than in the batch, as a half may: twice that is
    allowed."""
    own = scoring._scored

    def rounded(scorer: Any, rows: Any) -> Any:
        tokens = scorer.collate(rows)["tokens"]
        noise = off if scorer.shared else 0.1 * (len(rows) == 1)
        return own(scorer, rows) + noise * tokens

    monkeypatch.setattr(scoring, "_scored", rounded)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    found, slower = scoring.make_scorer(model, ROWS, 6, torch.bfloat16, rewards=False)
    assert found.shared == shared
    assert (slower is None) == shared

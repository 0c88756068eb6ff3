"""Rows put together into the tensors of one forward."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

SIDES = ("chosen_ids", "rejected_ids")
PROMPT, PAD = 0, -1  # in `segments`; the answers of a sequence are 1 and 2

Row = Mapping[str, Any]
Batch = dict[str, Tensor]


def collate(rows: Sequence[Row], *, shared: bool) -> Batch:
    """A batch of rows with `prompt_ids`, `chosen_ids` and, for pairs, `rejected_ids`.

    With `shared` a sequence is a prompt followed by all its answers, of which none sees another; without, a
    prompt followed by one answer. The tensors:

    input_ids, position_ids, segments: `[sequences, length]`: the tokens, where they stand counted from the
        beginning of their own text, and what they belong to: `PROMPT`, 1, 2, or `PAD`.
    sources, targets, owners: `[answer tokens]`: the place (in the flattened `input_ids`) whose hidden state
        predicts the token, the token, and the answer it belongs to (row · sides + side).
    ends: `[rows · sides]`: the place of the last token of each answer, or of its prompt if it is empty.
    tokens: `[rows, sides]`: how many tokens each answer has.
    index: `[rows]`: the rows' numbers in their dataset, for messages.
    """
    sides = [side for side in SIDES if side in rows[0]]
    sequences = _sequences(rows, sides, shared)
    length = max(len(prompt) + sum(len(answer) for _, answer in answers) for prompt, answers in sequences)
    batch: dict[str, list[Any]] = {name: [] for name in ("input_ids", "position_ids", "segments")}
    sources: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    ends: dict[int, int] = {}
    for number, (prompt, answers) in enumerate(sequences):
        ids, positions, segments = list(prompt), list(range(len(prompt))), [PROMPT] * len(prompt)
        last = number * length + len(prompt) - 1
        for segment, (owner, answer) in enumerate(answers, start=1):
            start = number * length + len(ids)
            sources += [last, *range(start, start + len(answer) - 1)][: len(answer)]
            targets += answer
            owners += [owner] * len(answer)
            ends[owner] = start + len(answer) - 1 if answer else last
            ids += answer
            positions += range(len(prompt), len(prompt) + len(answer))
            segments += [segment] * len(answer)
        padding = length - len(ids)
        batch["input_ids"].append(ids + [0] * padding)
        batch["position_ids"].append(positions + [0] * padding)
        batch["segments"].append(segments + [PAD] * padding)
    tokens = [[len(row[side]) for side in sides] for row in rows]
    columns = {"sources": sources, "targets": targets, "owners": owners, "tokens": tokens}
    columns["ends"] = [ends[owner] for owner in range(len(ends))]
    columns["index"] = [row["index"] for row in rows]
    return {name: torch.tensor(values, dtype=torch.int64) for name, values in (batch | columns).items()}


def _sequences(
    rows: Sequence[Row], sides: Sequence[str], shared: bool
) -> list[tuple[list[int], list[tuple[int, list[int]]]]]:
    """Each sequence as its prompt and its answers, an answer with its number in the batch."""
    found = []
    for number, row in enumerate(rows):
        answers = [(number * len(sides) + at, row[side]) for at, side in enumerate(sides)]
        grouped = [answers] if shared else [[answer] for answer in answers]
        found += [(row["prompt_ids"], group) for group in grouped]
    return found


def visible(segments: Tensor) -> Tensor:
    """Which tokens see which, `[sequences, 1, length, length]`: each sees what is before it in the prompt and
    in its own answer; padding sees itself, so that no softmax is over nothing."""
    length = segments.shape[-1]
    seen, seeing = segments[:, None, :], segments[:, :, None]
    order = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    own = torch.eye(length, dtype=torch.bool, device=segments.device)
    return (((seen == PROMPT) | (seen == seeing)) & (seen != PAD) & order | own)[:, None]

"""Exact likelihoods of given text: teacher forced, one pass through each operand, nothing sampled."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from arith.operands.llm import LLM
from arith.runtime.answers import Leaf, Moment
from arith.runtime.backbones.backbone import Backbone
from arith.runtime.backbones.lane import LaneRequest
from arith.runtime.backbones.memory import out_of_memory
from arith.runtime.free_memory import free_memory
from arith.runtime.fusion import Fused, Fusion, exits_of, log_probs_of
from arith.runtime.plan import no_room_for
from arith.runtime.result import FORMULA, Score
from arith.runtime.row import Row

LOGITS_SHARE = 0.2  # of the free memory, for the logits of the texts that are scored together
POSITIONS = 64  # evaluated together: bounds the float32 tensors of a long text

RowLogits = Mapping[Leaf, Tensor]
Measured = TypeVar("Measured")


def teacher_forced(
    fusion: Fusion,
    backbones: Mapping[LLM, Backbone],
    rows: Sequence[Row],
    measure: Callable[[Row, RowLogits], Measured],
    *,
    behind: bool,
    most: int,
) -> list[Measured]:
    """Runs the rows' prompts followed by their tokens once through the operands they need: at most so many
    rows together, and half as many when memory runs out.

    Gives what `measure` makes of each row and its logits `[positions, vocab]` of each leaf: those that
    predict its tokens, or with `behind` the last position only, or with that all of them where the formula
    adds up likelihoods. Where memory runs out in `measure`, it is called for that row once more. Raises
    `PlanError` where memory is too little for one row.
    """
    together = min(most, _with_room_for_logits(fusion, backbones, rows, behind))
    found: list[Measured] = []
    cleared = False  # whether all memory was given back since rows last went through
    while len(found) < len(rows):
        left = rows[len(found) :]
        measured = _within_memory(fusion, backbones, left[:together], measure, behind)
        found += measured
        if len(measured) == len(left[:together]):
            cleared = False
        elif together == 1 and cleared:
            raise no_room_for(left[0].place, f"it has {left[0].length} tokens", fusion.device)
        else:
            together = max(1, min(together, len(left)) // 2)
            for backbone in dict.fromkeys(backbones.values()):
                backbone.reset()
            cleared = True
    return found


def _with_room_for_logits(
    fusion: Fusion, backbones: Mapping[LLM, Backbone], rows: Sequence[Row], behind: bool
) -> int:
    positions = 1 if behind else max((len(row.tokens) for row in rows), default=1)
    row_bytes = 4 * max(positions, 1) * fusion.vocabulary * len(backbones)
    return max(1, int(LOGITS_SHARE * free_memory(fusion.device) // row_bytes))


def _within_memory(
    fusion: Fusion,
    backbones: Mapping[LLM, Backbone],
    rows: Sequence[Row],
    measure: Callable[[Row, RowLogits], Measured],
    behind: bool,
) -> list[Measured]:
    """What is measured of the rows: of all, or of the first ones where memory runs out."""
    measured: list[Measured] = []
    try:
        for row, logits in _forced(fusion, backbones, rows, behind):
            measured.append(measure(row, logits))
    except Exception as error:
        if not out_of_memory(error):
            raise
    return measured


def _forced(
    fusion: Fusion, backbones: Mapping[LLM, Backbone], rows: Sequence[Row], behind: bool
) -> Iterator[tuple[Row, RowLogits]]:
    found: list[dict[Leaf, Tensor]] = [{} for _ in rows]
    grouped: dict[Backbone, list[LLM]] = {}
    for operand, backbone in backbones.items():
        grouped.setdefault(backbone, []).append(operand)
    with torch.inference_mode():
        for backbone, operands in grouped.items():
            places = [
                (number, operand)
                for operand in operands
                for number, row in enumerate(rows)
                if operand in row.needed
            ]
            if not places:
                continue
            whole = bool(fusion.totalled)
            requests = [_request(rows[number], operand, behind, whole) for number, operand in places]
            lanes, parts = backbone.open(requests)
            for (number, operand), part in zip(places, parts, strict=True):
                found[number][operand, None] = part
            for operand, exits in exits_of([fusion.program], fusion.operands).items():
                chosen = [at for at, (_, other) in enumerate(places) if other == operand]
                for k in exits if chosen else ():
                    early = backbone.early_logits([lanes[at] for at in chosen], k)
                    for at, part in zip(chosen, early, strict=True):
                        found[places[at][0]][operand, k] = part
            backbone.close(lanes)
    yield from zip(rows, found, strict=True)


def _request(row: Row, operand: LLM, behind: bool, whole: bool) -> LaneRequest:
    given = row.tokens if behind else row.tokens[:-1]
    keep = (len(row.tokens) if whole else 0) + 1 if behind else max(len(row.tokens), 1)
    return LaneRequest(operand.adapter, (*row.prompt_ids[operand], *given), keep)


def score(fusion: Fusion, row: Row, logits: RowLogits) -> Score:
    """The log-probability of each of the row's tokens under the formula and each operand."""
    values: dict[str, list[float]] = {name: [] for name in (FORMULA, *fusion.operands)}
    for moments, part in parts_of(fusion, row, logits):
        chosen = torch.tensor([row.tokens[len(moment.tokens)] for moment in moments], device=fusion.device)
        for name, column in _fused(fusion, moments, part).of_tokens(chosen).items():
            values[name] += column.tolist() if row.ran(name) else [math.nan] * len(moments)
    return Score(list(row.tokens), values)


def next_log_probs(fusion: Fusion, row: Row, logits: RowLogits) -> Tensor:
    """The formula's log-probabilities `[1, vocab]` of the token behind the row's tokens."""
    totals = _running_totals(fusion, row, logits, len(row.tokens) + 1)
    last = Moment(row, row.tokens, {name: values[-1] for name, values in totals.items()})
    return _fused(fusion, [last], {leaf: whole[-1:] for leaf, whole in logits.items()}).log_probs


def parts_of(fusion: Fusion, row: Row, logits: RowLogits) -> Iterator[tuple[list[Moment], RowLogits]]:
    """The row at each of its tokens, with the logits there: some together, one part after the other.

    A moment holds the tokens before it, and all those of a long text would take memory by the square of its
    length.
    """
    totals = _running_totals(fusion, row, logits, len(row.tokens))
    for start in range(0, len(row.tokens), POSITIONS):
        steps = range(start, min(start + POSITIONS, len(row.tokens)))
        moments = [
            Moment(row, row.tokens[:step], {name: values[step] for name, values in totals.items()})
            for step in steps
        ]
        yield moments, {leaf: whole[steps.start : steps.stop] for leaf, whole in logits.items()}


def _running_totals(fusion: Fusion, row: Row, logits: RowLogits, count: int) -> dict[str, list[float]]:
    """For each operand that is added up its total before each of the row's first `count` steps."""
    totals: dict[str, list[float]] = {}
    for name in fusion.totalled:
        whole = logits.get((fusion.operands[name], None))
        totals[name] = [0.0] * count
        if whole is not None:
            tokens = torch.tensor(row.tokens[: count - 1], dtype=torch.int64, device=whole.device)
            each = log_probs_of(whole[: len(tokens)], tokens.unsqueeze(-1)).cpu().double()
            totals[name][1:] = each.cumsum(0).tolist()
    return totals


def _fused(fusion: Fusion, moments: Sequence[Moment], logits: RowLogits) -> Fused:
    with torch.inference_mode():
        return fusion.evaluate(moments, logits)

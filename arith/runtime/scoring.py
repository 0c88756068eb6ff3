"""Exact likelihoods of given text: teacher forced, one pass through each operand, nothing sampled."""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from arith.language.execute import Inputs
from arith.operands.llm import LLM
from arith.runtime.backbone import Backbone
from arith.runtime.fusion import Fused, Fusion
from arith.runtime.lane import LaneRequest
from arith.runtime.result import FORMULA, Score
from arith.runtime.row import Row

POSITIONS = 64  # evaluated together: bounds the float32 tensors of a long text


def teacher_forced(
    backbones: Mapping[LLM, Backbone], rows: Sequence[Row], keep_last: bool
) -> Iterator[tuple[Row, Mapping[LLM, Tensor]]]:
    """Runs the rows' prompts followed by their tokens once through the operands they need.

    Yields each row with the logits `[positions, vocab]` of each operand: those that predict its tokens, or
    with `keep_last` the one position behind them.
    """
    found: list[dict[LLM, Tensor]] = [{} for _ in rows]
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
            lanes, parts = backbone.open(
                [_request(rows[number], operand, keep_last) for number, operand in places]
            )
            for (number, operand), part in zip(places, parts, strict=True):
                found[number][operand] = part
            backbone.close(lanes)
    yield from zip(rows, found, strict=True)


def _request(row: Row, operand: LLM, keep_last: bool) -> LaneRequest:
    if keep_last or not row.tokens:
        return LaneRequest(operand.adapter, (*row.prompt_ids[operand], *row.tokens), 1)
    return LaneRequest(operand.adapter, (*row.prompt_ids[operand], *row.tokens[:-1]), len(row.tokens))


def score(fusion: Fusion, row: Row, logits: Mapping[LLM, Tensor]) -> Score:
    """The log-probability of each of the row's tokens under the formula and each operand."""
    values: dict[str, list[float]] = {name: [] for name in (FORMULA, *fusion.operands)}
    for start in range(0, len(row.tokens), POSITIONS):
        chosen = torch.tensor(row.tokens[start : start + POSITIONS], device=fusion.device)
        part = {operand: whole[start : start + POSITIONS] for operand, whole in logits.items()}
        for name, column in fuse_positions(fusion, row, part, start, len(chosen)).of_tokens(chosen).items():
            values[name] += column.tolist() if row.ran(name) else [math.nan] * len(chosen)
    return Score(list(row.tokens), values)


def fuse_positions(fusion: Fusion, row: Row, logits: Mapping[LLM, Tensor], first: int, count: int) -> Fused:
    """The formula at `count` positions of one row, from step `first` on; each is a row of the program."""
    leaves = {
        name: logits[operand].to(fusion.device)
        if operand in logits
        else torch.zeros(count, fusion.vocabulary, device=fusion.device)
        for name, operand in fusion.operands.items()
    }
    parameters = {name: fusion.column([row.values[name]] * count) for name in fusion.program.parameters}
    step = fusion.column([float(first + offset) for offset in range(count)])
    inputs = Inputs(leaves, parameters, step, count, fusion.vocabulary)

    def place(number: int) -> str:
        return f"{row.place}, step {first + number}"

    with torch.inference_mode():
        return Fused(fusion.program.log_probs(inputs, place), leaves)

"""The numbers of an explanation, from the logits of a row that its operands have read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from arith.language.inputs import Inputs
from arith.language.terms import Term, term_values
from arith.runtime.answers import Moment
from arith.runtime.fusion import Fusion
from arith.runtime.remembered import Memory, Remembered
from arith.runtime.row import Row
from arith.runtime.scoring import RowLogits, parts_of

FIRST_LIKELIEST = 2  # among a place's tokens


@dataclass(frozen=True)
class Asked:
    """What is asked of each place of a text: the base that it is compared with, the terms of the formula, and
    how many alternatives."""

    base: str
    terms: tuple[Term, ...]
    top: int


@dataclass(frozen=True, eq=False)
class Place:
    """The numbers at one place of a text, as in `ExplainedToken`. Lists go with `token_ids`: the token that
    is there, the one that the base would choose, and the formula's likeliest, of which there are `top`."""

    token_ids: list[int]
    log_probs: list[float]
    operand_log_probs: Mapping[str, list[float]]
    contributions: Mapping[str, list[float]]
    rank: int
    kl: float
    entropy: float
    weights: Mapping[str, float]
    log_normalizer: float | None


def places_of(fusion: Fusion, asked: Asked, row: Row, logits: RowLogits) -> list[Place]:
    """The numbers at each of the row's tokens. Raises `EvaluationError` where the formula has no value."""
    found: list[Place] = []
    with torch.inference_mode():
        for moments, part in parts_of(fusion, row, logits):
            found += _places(fusion, asked, moments, fusion.inputs(moments, part))
    return found


def _places(fusion: Fusion, asked: Asked, moments: Sequence[Moment], inputs: Inputs) -> list[Place]:
    """The numbers at moments of one row."""
    # The terms ask of a guide what the whole formula has asked it already.
    inputs = replace(inputs, source=Remembered(inputs.asked, Memory()))
    row = moments[0].row
    formula = fusion.program.log_probs(inputs, place=lambda number: moments[number].place)
    operands = {
        name: logits.float().log_softmax(-1) for name, logits in inputs.operands.items() if row.ran(name)
    }
    base = operands[asked.base]
    tokens = torch.tensor([row.tokens[len(moment.tokens)] for moment in moments], device=fusion.device)
    likeliest = formula.topk(asked.top, dim=-1).indices
    ids = torch.cat([tokens.unsqueeze(-1), base.argmax(-1, keepdim=True), likeliest], dim=-1)
    found = formula.gather(-1, ids)
    weights, contributions = {}, {}
    for term, value in zip(asked.terms, term_values(fusion.program, asked.terms, inputs), strict=True):
        weights[term.name] = value.weights.squeeze(-1).tolist()
        contributions[term.name] = value.contributions.gather(-1, ids)
    normalizers = _log_normalizers(contributions.values(), found)
    by_operand = {name: whole.gather(-1, ids).tolist() for name, whole in operands.items()}
    by_term = {name: part.tolist() for name, part in contributions.items()}
    ranks = ((formula > found[:, :1]).sum(-1) + 1).tolist()
    kl, entropies = divergence(formula, base).tolist(), entropy(formula).tolist()
    return [
        Place(
            token_ids=ids[number].tolist(),
            log_probs=found[number].tolist(),
            operand_log_probs={name: rows[number] for name, rows in by_operand.items()},
            contributions={name: rows[number] for name, rows in by_term.items()},
            rank=ranks[number],
            kl=kl[number],
            entropy=entropies[number],
            weights={name: rows[number] for name, rows in weights.items()},
            log_normalizer=normalizers[number],
        )
        for number in range(len(moments))
    ]


def _log_normalizers(contributions: Iterable[Tensor], log_probs: Tensor) -> list[float | None]:
    """The sum of what the terms contribute to a token, less its log-probability: told from the likeliest
    token, whose probability is never 0."""
    parts = [part[:, FIRST_LIKELIEST] for part in contributions]
    if not parts:
        return [None] * len(log_probs)
    normalizers: list[float | None] = (torch.stack(parts).sum(0) - log_probs[:, FIRST_LIKELIEST]).tolist()
    return normalizers


def divergence(log_probs: Tensor, others: Tensor) -> Tensor:
    """KL(softmax(log_probs)‖softmax(others)) of normalised log-probabilities `[rows, vocab]`: `[rows]` in
    nats, inf where the others lack a token."""
    probs = log_probs.exp()
    ratios = torch.where(probs > 0, log_probs - others, 0.0)  # what rounds to 0 adds nothing, not 0 * inf
    return (probs * ratios).sum(-1).clamp(min=0.0)  # rounding may leave a little less than 0


def entropy(log_probs: Tensor) -> Tensor:
    """The entropy `[rows]`, in nats, of normalised log-probabilities `[rows, vocab]`."""
    return -torch.where(log_probs.isneginf(), 0.0, log_probs.exp() * log_probs).sum(-1)

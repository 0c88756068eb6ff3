"""The logits processors and warpers of transformers, applied to a formula's log-probabilities."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from arith.errors import OptionError
from arith.runtime.options import Sampling
from arith.runtime.sending import send

Processor = Callable[[Any, Any], Tensor]

# These remember the sequence of the one batch they run in, and here each row comes and goes by itself.
STATEFUL = {
    "SynthIDTextWatermarkLogitsProcessor": "WatermarkLogitsProcessor keeps no memory and can be used",
    "UnbatchedClassifierFreeGuidanceLogitsProcessor": "write the guidance as a formula: `a + w*(a - b)`",
}


class Processors:
    """What stands between a formula's log-probabilities and the choice of a token.

    In transformers' order: the repetition penalty, the processors given, bans, and, unless rows are greedy,
    temperature, top_k, top_p and min_p. A processor given is called for one row at a time, with that row's
    own tokens, so it sees what it would see in a batch of one.
    """

    def __init__(self, sampling: Sampling, logits_processor: Iterable[Processor] | None, greedy: bool):
        from transformers import RepetitionPenaltyLogitsProcessor

        self._given = checked_callables(logits_processor, "logits_processor")
        self._penalty: Processor | None = None
        if sampling.repetition_penalty != 1:
            self._penalty = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)
        self._warpers: list[Processor] = [] if greedy else _warpers(sampling)
        for processor in self._given:
            name = type(processor).__name__
            if name in STATEFUL:
                raise OptionError(f"logits_processor: {name} keeps a memory of one batch", STATEFUL[name])
            if self._penalty is not None and type(processor) is type(self._penalty):
                raise OptionError(
                    f"the repetition penalty is given twice: by `repetition_penalty` and by {name}",
                    "give one",
                )

    @property
    def given(self) -> bool:
        """Whether any were given."""
        return bool(self._given)

    @property
    def need_histories(self) -> bool:
        """Whether a call looks at the histories; without that, any may be passed."""
        return bool(self._penalty or self._given)

    def __call__(
        self,
        log_probs: Tensor,
        histories: Sequence[Sequence[int]],
        banned: Mapping[int, Sequence[int]] | None = None,
    ) -> Tensor:
        """The scores `[rows, vocab]` for the choice; `log_probs` `[rows, vocab]` stays as it was. The warpers
        see none of the tokens that are `banned`, in some rows by their numbers.

        A history is the row's `input_ids`: the first operand's prompt and the tokens generated. With
        everything off the result is `log_probs` itself. Raises `OptionError` where a processor leaves a row
        no token.
        """
        scores = log_probs
        if self._penalty is not None:
            scores = self._penalty(_padded(histories, scores.device), scores)
        if self._given:
            rows = [self._one_row(scores[row : row + 1], history) for row, history in enumerate(histories)]
            scores = torch.cat(rows)
        if banned:
            scores = scores.clone()
            for row, tokens in banned.items():
                scores[row, send(tokens, scores.device)] = -torch.inf
        for warper in self._warpers:
            scores = warper(None, scores)
        return scores

    def _one_row(self, scores: Tensor, history: Sequence[int]) -> Tensor:
        input_ids = torch.tensor([list(history)], dtype=torch.int64, device=scores.device)
        scores = scores.clone()  # A processor may write into its scores, and these are still to be reported.
        for processor in self._given:
            result = processor(input_ids, scores)
            name = type(processor).__name__
            if not isinstance(result, Tensor):
                raise OptionError(f"logits_processor: {name} returned {result!r} in place of scores")
            if result.shape != scores.shape:
                shapes = f"{list(scores.shape)} into {list(result.shape)}"
                raise OptionError(f"logits_processor: {name} turned scores of shape {shapes}")
            scores = result
            # One number tells all: the maximum is -inf if no token is left, and NaN if any score is.
            if not torch.isfinite(scores.max()):
                raise OptionError(
                    f"logits_processor: {name} left a row without a token to choose: "
                    f"its highest score is {scores.max().item()}, after {len(history)} tokens"
                )
        return scores


def checked_callables(given: Iterable[Any] | None, option: str) -> list[Any]:
    """The members of a list of callables. Raises `OptionError` naming the option if it is anything else."""
    if given is None:
        return []
    if isinstance(given, Iterable):
        members = list(given)
        if all(callable(member) and not isinstance(member, type) for member in members):
            return members
    raise OptionError(f"`{option}` has to be a list of objects to call, not {given!r}", f"{option}=[…]")


def _warpers(sampling: Sampling) -> list[Processor]:
    from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    warpers: list[Processor] = []
    if sampling.temperature != 1:
        warpers.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k != 0:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p > 0:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    return warpers


def _padded(histories: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """`[rows, longest]` token ids; a row is filled up with a token it has, which the penalty hits once."""
    longest = max(map(len, histories))
    filled = [[*history, *[history[-1]] * (longest - len(history))] for history in histories]
    return send(filled, device, torch.int64)

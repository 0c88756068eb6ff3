"""A model's scores of the answers in a batch, with as little computed as the model allows."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from arith.errors import OperandError
from arith.runtime.backbones.head import MISFITS, misfit
from trainers.scoring.batches import PAD, Batch, Row, collate, visible
from trainers.scoring.log_probs import of_logits, token_log_probs

TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}  # of a token's mean log-probability
COARSE = 0.05  # of other dtypes

Forward = Callable[..., Any]


@dataclass(frozen=True)
class Scorer:
    """Scores answers by a causal language model or, with `rewards`, by a sequence classification model.

    model: the model itself, under whatever wraps it in training.
    shared: the answers of a prompt follow it in one sequence, so that it is encoded once.
    chunked: log-probabilities are computed where the hidden states enter the output layer, a chunk of
        positions at a time; otherwise from the logits, after whatever the model does to these.
    """

    model: nn.Module
    rewards: bool
    shared: bool
    chunked: bool

    def collate(self, rows: Sequence[Row]) -> Batch:
        """The batch that this scorer takes."""
        return collate(rows, shared=self.shared)

    def __call__(self, forward: Forward, batch: Batch) -> Tensor:
        """`[rows, sides]` float32: the answers' log-probabilities in nats, or rewards. `forward` is the
        model, or what wraps it."""
        tokens = batch["tokens"]
        if self.rewards:
            return self._texts(forward, batch).view(tokens.shape)
        each = self._tokens(forward, batch)
        total = torch.zeros(tokens.numel(), dtype=each.dtype, device=each.device)
        return total.index_add(0, batch["owners"], each).view(tokens.shape)

    def _tokens(self, forward: Forward, batch: Batch) -> Tensor:
        """The log-probability of each answer token, `[answer tokens]`."""
        head = self._head()
        own_forward = head.forward

        def select(hidden: Tensor, *_: Any) -> Tensor:
            chosen = hidden.reshape(-1, hidden.shape[-1])[batch["sources"]]
            if not self.chunked:
                return cast(Tensor, own_forward(chosen))[None]
            return token_log_probs(chosen, batch["targets"], head, own_forward)[None, :, None]

        with _replaced(head, select):
            found = forward(**self._inputs(batch)).logits[0]
        return found.squeeze(-1) if self.chunked else of_logits(found, batch["targets"])

    def _texts(self, forward: Forward, batch: Batch) -> Tensor:
        """The output at the last token of each text, `[rows · sides]`."""
        head = self._head()
        own_forward = head.forward

        def select(hidden: Tensor, *_: Any) -> Tensor:
            # The model picks one position of each text by the padding token, which a text may contain: it
            # finds the output of the last one at every position.
            ends = hidden.reshape(-1, hidden.shape[-1])[batch["ends"]]
            found = cast(Tensor, own_forward(ends))
            return found[:, None].expand(-1, hidden.shape[1], -1)

        with _replaced(head, select):
            found = forward(**self._inputs(batch)).logits
        return cast(Tensor, found.squeeze(-1).float())

    def _head(self) -> nn.Module:
        """The output layer; raises `OperandError` for a model without one."""
        model: Any = self.model
        head = getattr(model, "score", None) if self.rewards else model.get_output_embeddings()
        if head is None:
            what = "`score` layer" if self.rewards else "output layer"
            raise OperandError(f"{model.name_or_path} ({type(model).__name__}) has no {what} to train with")
        return cast(nn.Module, head)

    def _inputs(self, batch: Batch) -> dict[str, Any]:
        inputs = {"input_ids": batch["input_ids"], "use_cache": False}
        if not self.shared:
            return inputs | {"attention_mask": (batch["segments"] != PAD).long()}
        mask = visible(batch["segments"])
        config = cast(Any, self.model).config
        if config._attn_implementation != "sdpa":  # others add the mask to their scores
            dtype = cast(Any, self.model).dtype
            mask = torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
        return inputs | {"attention_mask": mask, "position_ids": batch["position_ids"]}


def make_scorer(
    model: nn.Module, rows: Sequence[Row], longest: int, dtype: torch.dtype, *, rewards: bool
) -> tuple[Scorer, str | None]:
    """The fastest scorer that is right for the model, and why it isn't the fastest there is.

    `rows` are tried out: the scores must be those of separate texts and the model's own logits. `longest` is
    the most tokens of a prompt with one of its answers, and `dtype` what the model computes in, of whatever
    dtype its weights are. Raises `OperandError` where even the plain way fails.
    """
    if rewards:
        return Scorer(model, rewards=True, shared=False, chunked=False), None
    plain = Scorer(model, rewards=False, shared=False, chunked=False)
    with _evaluating(model):
        try:
            expected = _scored(plain, rows)
            alone = torch.cat([_scored(plain, [row]) for row in rows])
        except MISFITS as error:
            raise OperandError(f"{_name(model)} can't score texts: {misfit(error)}") from error
        # A half rounds otherwise in a batch of another shape: no way can be nearer than that.
        allowed = max(TOLERANCE.get(dtype, COARSE), 2 * _apart(alone, expected, plain, rows))
        reason = _unshareable(model, longest)
        for shared in (True, False):
            if shared and reason is not None:
                continue
            found = Scorer(model, rewards=False, shared=shared, chunked=True)
            trouble = _trouble(found, rows, expected, allowed)
            if trouble is None:
                return found, None if shared else f"each answer is run with a prompt of its own: {reason}"
            reason = reason or trouble
    return plain, f"each answer is run with a prompt of its own, and its logits are kept: {reason}"


def _trouble(scorer: Scorer, rows: Sequence[Row], expected: Tensor, allowed: float) -> str | None:
    """What is wrong with the scorer's answers, which may be `allowed` nats a token off; None where nothing
    is."""
    try:
        found = _scored(scorer, rows)
    except MISFITS as error:
        return misfit(error)
    difference = _apart(found, expected, scorer, rows)
    return None if difference <= allowed else f"its scores would differ by {difference:.2g} nats a token"


def _apart(found: Tensor, expected: Tensor, scorer: Scorer, rows: Sequence[Row]) -> float:
    """By how much scores differ at most, in nats a token."""
    tokens = scorer.collate(rows)["tokens"].to(found.device).clamp(min=1)
    return ((found - expected) / tokens).abs().max().item()


def _scored(scorer: Scorer, rows: Sequence[Row]) -> Tensor:
    model: Any = scorer.model
    batch = {name: part.to(model.device) for name, part in scorer.collate(rows).items()}
    return scorer(model, batch)


def _unshareable(model: nn.Module, longest: int) -> str | None:
    """What is known beforehand to forbid answers side by side in one sequence; None where nothing is."""
    config = cast(Any, model).config
    implementation = config._attn_implementation
    if implementation not in ("sdpa", "eager"):
        return f"the attention {implementation} takes no mask of one's own"
    text_config = config.get_text_config()
    window = getattr(text_config, "sliding_window", None)
    if window is not None and longest > window and getattr(text_config, "use_sliding_window", True):
        return f"its layers see {window} tokens back, and texts are up to {longest} long"
    return None


@contextmanager
def _replaced(module: nn.Module, forward: Callable[..., Tensor]) -> Iterator[None]:
    """The module with another forward, inside the model's own: where its weights are gathered and its hooks
    run, whatever shards or wraps them."""
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def _name(model: nn.Module) -> str:
    return str(cast(Any, model).name_or_path)

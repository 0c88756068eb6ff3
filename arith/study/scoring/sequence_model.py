"""Scores by a reward model or a classifier, which reads each answer behind its prompt."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from arith.operands import Classifier, RewardModel
from arith.operands.fingerprint import fingerprints
from arith.study.results import ResultRow
from arith.study.scoring.scorer import TOGETHER, Scored, Scorer

if TYPE_CHECKING:
    from arith.operands.guide_prompts import Frame


class SequenceModelScorer(Scorer):
    """The reward of each answer, or log P(label | answer); what the model reads is what it reads as a guide.

    `device` as in `Engine`.
    """

    def __init__(self, operand: RewardModel | Classifier, device: str | None):
        self._operand = operand
        self._device = device

    @property
    def settings(self) -> Mapping[str, Any]:
        kind = "classifier" if isinstance(self._operand, Classifier) else "reward"
        model = self._operand.weights.model
        weights = fingerprints({"model": self._operand})
        return {"kind": kind, **asdict(self._operand), "model": model, "weights": weights}

    def check(self, rows: Sequence[ResultRow]) -> str:
        """Raises `OperandError` for a model that isn't what the operand says, and `PromptError` for a prompt
        that doesn't go into its template."""
        from arith.operands.loading import resolve_device
        from arith.operands.manifest import contradictions
        from arith.operands.sequence_models import output_index
        from arith.runtime.plan import Plan

        output_index(self._operand)
        self._frames(rows)
        plan = Plan.of({self._operand.model: self._operand}, resolve_device(self._device))
        plan.refuse_if_impossible()
        return "\n".join([str(plan), *contradictions("reward", self._operand)])

    def score(self, rows: Sequence[ResultRow]) -> Iterator[tuple[int, Scored]]:
        """Raises `OperandError` for a model that can't be loaded."""
        from arith.operands.loading import resolve_device
        from arith.runtime.guides.whole_texts import WholeTexts

        frames = self._frames(rows)
        model = WholeTexts(self._operand, resolve_device(self._device))
        # Those of like length are padded little.
        order = sorted(range(len(rows)), key=lambda at: -len(frames[at].around(rows[at].text)))
        for start in range(0, len(order), TOGETHER):
            chosen = order[start : start + TOGETHER]
            values = model.values([frames[at] for at in chosen], [rows[at].text for at in chosen])
            yield from zip(chosen, map(Scored, values), strict=True)
            model.reset()

    def _frames(self, rows: Sequence[ResultRow]) -> "list[Frame]":
        from arith.runtime.guides.whole_texts import frames_of

        return frames_of(self._operand, [row.whole for row in rows], [row.place for row in rows])

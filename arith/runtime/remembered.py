"""A source that asks classifiers nothing twice: for programs that run again with other parameter values."""

from dataclasses import dataclass, field

from torch import Tensor

from arith.language.inputs import Source


@dataclass(frozen=True)
class Memory:
    """What classifiers have said of some rows: of their texts, and of their texts with candidates."""

    strengths: dict[tuple[str, bool], Tensor] = field(default_factory=dict)
    values: dict[tuple[str, bytes], tuple[Tensor, Tensor]] = field(default_factory=dict)


@dataclass(frozen=True)
class Remembered:
    """The answers of `source`, classifiers' from `memory` where it has them: both are of the same rows."""

    source: Source
    memory: Memory

    def layer(self, operand: str, k: int) -> Tensor:
        return self.source.layer(operand, k)

    def log_likelihood(self, operand: str) -> Tensor:
        return self.source.log_likelihood(operand)

    def strength(self, classifier: str, *, prompt: bool) -> Tensor:
        known, key = self.memory.strengths, (classifier, prompt)
        if key not in known:
            known[key] = self.source.strength(classifier, prompt=prompt)
        return known[key]

    def guide(self, classifier: str, candidates: Tensor) -> tuple[Tensor, Tensor]:
        known, key = self.memory.values, (classifier, candidates.cpu().numpy().tobytes())
        if key not in known:
            known[key] = self.source.guide(classifier, candidates)
        return known[key]

    def matching(self, pattern: str) -> Tensor:
        # It may have been found while no gradients were wanted, and such a tensor takes no part in any.
        return self.source.matching(pattern).clone()

    def token(self, text: str) -> int:
        return self.source.token(text)

    def rows(self, chosen: Tensor) -> Source:
        return self.source.rows(chosen)

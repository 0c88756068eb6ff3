"""What operators ask of a run, answered from values that are given under the operators' own texts."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from arith.language.program import Program
from arith.language.vocabulary import Vocabulary


def given_names(program: Program) -> dict[str, bool]:
    """The texts under which values have to be given, and whether each is a `[..., vocab]` tensor."""
    layers = {_layer(str(call["operand"]), call["k"]): True for call in program.calls("layer")}
    totals = {_total(str(call["operand"])): False for call in program.calls("log_likelihood")}
    strengths = {
        _strength(str(call["classifier"]), bool(call.get("prompt"))): False
        for call in program.calls("strength")
    }
    return layers | totals | strengths


def _layer(operand: str, k: object) -> str:
    return f"layer({operand}, {k:g})" if isinstance(k, float) else f"layer({operand}, {k})"


def _total(operand: str) -> str:
    return f"log_likelihood({operand})"


def _strength(classifier: str, prompt: bool) -> str:
    return f"strength({classifier}, prompt=true)" if prompt else f"strength({classifier})"


@dataclass(frozen=True, eq=False)
class GivenValues:
    """A source for values that are known: `wide` tensors `[rows, vocab]` and `columns` `[rows, 1]`."""

    wide: Mapping[str, Tensor]
    columns: Mapping[str, Tensor]
    vocabulary: Vocabulary

    def layer(self, operand: str, k: int) -> Tensor:
        return self.wide[_layer(operand, k)]

    def log_likelihood(self, operand: str) -> Tensor:
        return self.columns[_total(operand)]

    def strength(self, classifier: str, *, prompt: bool) -> Tensor:
        return self.columns[_strength(classifier, prompt)]

    def guide(self, classifier: str, candidates: Tensor) -> tuple[Tensor, Tensor]:
        return self.wide[classifier].gather(-1, candidates), self.columns[f"{classifier} without"]

    def matching(self, pattern: str) -> Tensor:
        return self.vocabulary.matching(pattern)

    def token(self, text: str) -> int:
        return self.vocabulary.token(text)

    def rows(self, chosen: Tensor) -> "GivenValues":
        def pick(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {
                name: torch.index_select(tensor, 0, chosen.to(tensor.device))
                for name, tensor in tensors.items()
            }

        return GivenValues(pick(self.wide), pick(self.columns), self.vocabulary)

"""What a program asks of a run besides the operands' logits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from arith.language.vocabulary import Vocabulary
from arith.operands.llm import LLM
from arith.runtime.guides import Context, Guide
from arith.runtime.row import Row
from arith.runtime.sending import send

Leaf = tuple[LLM, int | None]
"""An operand's logits: behind its last block (None), or those of an early exit."""


class Facts:
    """What stays the same for all rows of an engine: the vocabulary, and the guides by their names."""

    def __init__(self, texts: Callable[[], Sequence[str]], guides: Mapping[str, Guide], device: torch.device):
        self._texts = texts
        self.guides = guides
        self._device = device
        self._masks: dict[str, Tensor] = {}
        self._tokens: dict[str, int] = {}

    def matching(self, pattern: str) -> Tensor:
        """The tokens `[1, vocab]` that match, on the device."""
        if pattern not in self._masks:
            self._masks[pattern] = self._vocabulary.matching(pattern).to(self._device)
        return self._masks[pattern]

    def token(self, text: str) -> int:
        """The token with this text."""
        if text not in self._tokens:
            self._tokens[text] = self._vocabulary.token(text)
        return self._tokens[text]

    def reset(self) -> None:
        """Forgets what guides have read."""
        for guide in dict.fromkeys(self.guides.values()):
            guide.reset()

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self._texts())


@dataclass(frozen=True, eq=False)
class Moment:
    """A row at one of its steps: `tokens` are those before the step, `totals` what each operand gave them."""

    row: Row
    tokens: Sequence[int]
    totals: Mapping[str, float]

    @property
    def place(self) -> str:
        """How an error names it."""
        return f"{self.row.place}, step {len(self.tokens)}"

    @property
    def context(self) -> Context:
        """What a guide is told of it."""
        return Context(self.row, self.row.prompt, self.tokens, self.row.place)


@dataclass(frozen=True, eq=False)
class Answers:
    """The source of one evaluation; each moment is a row of it.

    `layers` holds the logits `[rows, vocab]` of early exits. Rows in which a guide has weight 0 don't ask
    it.
    """

    facts: Facts
    moments: Sequence[Moment]
    layers: Mapping[tuple[str, int], Tensor]
    device: torch.device

    def layer(self, operand: str, k: int) -> Tensor:
        return self.layers[operand, k]

    def log_likelihood(self, operand: str) -> Tensor:
        # A draft may ask for an operand that its row's results don't hold: it drafts as if at the beginning.
        totals = [moment.totals.get(operand, 0.0) for moment in self.moments]
        return send(totals, self.device, torch.float32).unsqueeze(-1)

    def strength(self, classifier: str, *, prompt: bool) -> Tensor:
        guide = self.facts.guides[classifier]
        found = torch.zeros(len(self.moments), 1)
        chosen, contexts = self._asking(guide)
        if chosen:
            found[chosen] = guide.strengths(contexts, prompt=prompt).cpu()
        return found.to(self.device)

    def guide(self, classifier: str, candidates: Tensor) -> tuple[Tensor, Tensor]:
        guide = self.facts.guides[classifier]
        ids = candidates.cpu()
        values, without = torch.zeros(ids.shape), torch.zeros(len(ids), 1)
        chosen, contexts = self._asking(guide)
        if chosen:
            values[chosen], without[chosen] = (part.cpu() for part in guide.values(contexts, ids[chosen]))
        return values.to(self.device), without.to(self.device)

    def matching(self, pattern: str) -> Tensor:
        return self.facts.matching(pattern)

    def token(self, text: str) -> int:
        return self.facts.token(text)

    def rows(self, chosen: Tensor) -> "Answers":
        return replace(
            self,
            moments=[self.moments[number] for number in chosen.tolist()],
            layers={
                key: tensor.index_select(0, chosen.to(tensor.device)) for key, tensor in self.layers.items()
            },
        )

    def _asking(self, guide: Guide) -> tuple[list[int], list[Context]]:
        """The moments that the guide matters to, by their numbers and as it is told of them."""
        one = guide.operand
        chosen = [
            n
            for n, moment in enumerate(self.moments)
            if one in moment.row.needed or one in moment.row.drafting
        ]
        return chosen, [self.moments[n].context for n in chosen]

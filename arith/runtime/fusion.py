"""From the logits of lanes to the log-probabilities of rows: one evaluation of the formula for all rows of a
step."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor, nn

from arith.language import Formula
from arith.language.inputs import Inputs
from arith.language.program import Program, Run
from arith.language.vocabulary import refuse_beyond, refuse_more
from arith.operands.llm import LLM
from arith.runtime.answers import Answers, Facts, Leaf, Moment
from arith.runtime.backbones.compiled import compiles
from arith.runtime.compiled_function import CompiledFunction
from arith.runtime.options import Compile
from arith.runtime.result import FORMULA
from arith.runtime.sending import send
from grammar.errors import FormulaError


@dataclass(frozen=True, eq=False)
class Fused:
    """The step's distributions: `log_probs` of the formula, and the operands' logits, `[rows, vocab]`
    each, None of one that ran for no row. Rows `[rows]` that are `doubtful` have to be settled."""

    log_probs: Tensor
    doubtful: Tensor
    logits: Mapping[str, Tensor | None]

    def of_formula(self, tokens: Tensor) -> dict[str, Tensor]:
        """The log-probabilities `[rows]` of one token a row, for `formula` alone."""
        return {FORMULA: self.log_probs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1).float()}

    def of_tokens(self, tokens: Tensor) -> dict[str, Tensor]:
        """The log-probabilities `[rows]` of one token a row, for `formula` and each operand; NaN for one that
        ran for no row."""
        found = self.of_formula(tokens)
        columns = tokens.unsqueeze(-1)
        for name, logits in self.logits.items():
            if logits is None:
                found[name] = found[FORMULA].new_full((len(tokens),), math.nan)
            else:
                found[name] = log_probs_of(logits, columns)
        return found


def log_probs_of(logits: Tensor, chosen: Tensor) -> Tensor:
    """The log-probabilities `[rows]` of the tokens `chosen` `[rows, 1]`."""
    # One kernel, where a `logsumexp` is several passes: half the time, for a copy of the logits.
    return torch.log_softmax(logits, dim=-1, dtype=torch.float32).gather(-1, chosen).squeeze(-1)


def _agree(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> bool:
    close = torch.allclose(found[0], expected[0], rtol=1e-4, atol=1e-4, equal_nan=True)
    return close and torch.equal(found[1], expected[1])


def asked_layers(program: Program) -> tuple[tuple[str, int], ...]:
    """The early exits that a program asks for, as operand and block."""
    calls = [(str(call["operand"]), call["k"]) for call in program.calls("layer")]
    return tuple((name, int(k)) for name, k in calls if isinstance(k, float))


def exits_of(programs: Sequence[Program], operands: Mapping[str, LLM]) -> dict[LLM, tuple[int, ...]]:
    """The early exits that programs ask of each operand."""
    found: dict[LLM, tuple[int, ...]] = {}
    for name, k in [layer for program in programs for layer in asked_layers(program)]:
        operand = operands[name]
        found[operand] = tuple(dict.fromkeys((*found.get(operand, ()), k)))
    return found


class Fusion:
    """Evaluates one formula over operands; `facts` answer what it asks besides their logits."""

    def __init__(
        self,
        formula: Formula,
        operands: Mapping[str, LLM],
        vocabulary: int,
        device: torch.device,
        facts: Facts,
        compile: Compile = "off",
    ):
        """`compile` is for the formula's own arithmetic, where that needs only logits and parameters."""
        self.program = formula.program
        self.operands = operands
        self.vocabulary = vocabulary
        self.device = device
        self.facts = facts
        self.layers = asked_layers(self.program)
        self._run: Run = self.program.run
        if self.program.is_closed and compiles(compile, device):
            self._run = CompiledFunction(self.program.run, _agree, compile, "the formula")
        self.totalled = tuple(str(call["operand"]) for call in self.program.calls("log_likelihood"))

    def refuse_unknown_tokens(self) -> None:
        """Raises `FormulaError` for a token that the formula names and the vocabulary lacks, and for more
        candidates of a guide than there are tokens."""
        for call, span in self.program.call_places("tokens", "except_tokens", "guide"):
            statics = dict(call.statics)
            named = statics.get("tokens")
            try:
                for token in named if isinstance(named, tuple) else ():
                    number = self.facts.token(token) if isinstance(token, str) else token
                    refuse_beyond(int(number), self.vocabulary)
                k = statics.get("k")
                if isinstance(k, float):
                    refuse_more(int(k), self.vocabulary)
            except FormulaError as error:
                raise FormulaError(error.message, span, error.hint) from None

    def spread(self, logits: Mapping[Leaf, tuple[Sequence[int], Tensor]], count: int) -> dict[Leaf, Tensor]:
        """The logits of some of `count` positions as logits of all, 0 elsewhere."""
        return {leaf: self._spread(chosen, part, count) for leaf, (chosen, part) in logits.items()}

    def log_probs_of_drafted(
        self, drafted: Sequence[Sequence[int]], logits: Mapping[Leaf, Tensor]
    ) -> dict[str, Iterator[float]]:
        """What each operand that is added up gives the drafted tokens, row after row. The logits have one
        position more for each row than it has tokens."""
        leaves = {name: (self.operands[name], None) for name in self.totalled}
        ran = {name: leaf for name, leaf in leaves.items() if leaf in logits}
        starts = accumulate((len(tokens) + 1 for tokens in drafted), initial=0)
        places = [at + n for at, tokens in zip(starts, drafted, strict=False) for n in range(len(tokens))]
        if not ran or not places:
            return {name: iter(()) for name in ran}
        chosen = send([token for tokens in drafted for token in tokens], self.device)
        at = send(places, self.device)
        told = [log_probs_of(logits[leaf].index_select(0, at), chosen.unsqueeze(-1)) for leaf in ran.values()]
        return {name: iter(values) for name, values in zip(ran, torch.stack(told).tolist(), strict=True)}

    def evaluate(self, moments: Sequence[Moment], logits: Mapping[Leaf, Tensor]) -> Fused:
        """The formula at each of the moments, from logits `[moments, vocab]`; a leaf that didn't run is
        missing."""
        fused = self.attempt(moments, logits)
        rows = fused.doubtful.nonzero().flatten().tolist()
        return self.settled(fused, rows, moments, logits) if rows else fused

    def attempt(self, moments: Sequence[Moment], logits: Mapping[Leaf, Tensor]) -> Fused:
        """The same without a wait for the device; in rows that are doubtful it may be wrong."""
        inputs = self.inputs(moments, logits)
        log_probs, doubtful = self.program.attempt(inputs, self._run)
        ran = {name for name, operand in self.operands.items() if (operand, None) in logits}
        return Fused(
            log_probs,
            doubtful,
            {name: whole if name in ran else None for name, whole in inputs.operands.items()},
        )

    def settled(
        self,
        fused: Fused,
        rows: Sequence[int],
        moments: Sequence[Moment],
        logits: Mapping[Leaf, Tensor],
    ) -> Fused:
        """`fused` with these of the rows computed exactly, and none in doubt. Raises `EvaluationError`."""
        inputs, numbers = self.inputs(moments, logits), send(rows, self.device)
        log_probs = self.program.settled(inputs, fused.log_probs, numbers, lambda n: moments[n].place)
        return replace(fused, log_probs=log_probs, doubtful=torch.zeros_like(fused.doubtful))

    def inputs(self, moments: Sequence[Moment], logits: Mapping[Leaf, Tensor]) -> Inputs:
        """What the program is given at each of the moments, which are its rows."""
        count = len(moments)

        def of(leaf: Leaf) -> Tensor:
            return logits[leaf].to(self.device) if leaf in logits else self._nothing(count)

        layers = {(name, k): of((self.operands[name], k)) for name, k in self.layers}
        positions = {
            "t": [float(len(moment.tokens)) for moment in moments],
            "prompt_length": [float(moment.row.prompt_length) for moment in moments],
        }
        parameters = self.program.parameters
        return Inputs(
            operands={name: of((operand, None)) for name, operand in self.operands.items()},
            parameters={name: self._column([m.row.values[name] for m in moments]) for name in parameters},
            positions={name: self._column(positions[name]) for name in self.program.positions},
            row_count=count,
            vocabulary=self.vocabulary,
            device=self.device,
            source=Answers(self.facts, moments, layers, self.device),
        )

    def _spread(self, chosen: Sequence[int], part: Tensor, count: int) -> Tensor:
        part = part.to(self.device)
        if part.shape[-1] < self.vocabulary:  # of an operand that only drafts, and knows fewer tokens
            part = nn.functional.pad(part, (0, self.vocabulary - part.shape[-1]), value=-torch.inf)
        if len(chosen) == count and list(chosen) == list(range(count)):
            return part
        return self._nothing(count, part.dtype).index_copy(0, send(chosen, self.device), part)

    def _nothing(self, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(count, self.vocabulary, dtype=dtype, device=self.device)

    def _column(self, values: Sequence[float]) -> Tensor:
        """`[rows, 1]`, float32."""
        return send(values, self.device, torch.float32).unsqueeze(-1)

"""The loop that turns rows into text: admit, step, sample, let go."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arith.operands.llm import LLM
from arith.runtime.answers import Leaf
from arith.runtime.backbone import Backbone
from arith.runtime.fusion import Fused, Fusion
from arith.runtime.lane import LaneRequest
from arith.runtime.noise import exponential_noise
from arith.runtime.options import Sampling
from arith.runtime.processors import Processors
from arith.runtime.row import Row
from arith.runtime.sampler import choose
from arith.runtime.stopping import Criteria, StopStrings

LaneLogits = Mapping[Leaf, tuple[Sequence[int], Tensor]]
RunLanes = Callable[[Backbone, Sequence[tuple[Row, LLM]]], Tensor]


@dataclass(frozen=True, eq=False)
class Ending:
    """What ends a row: end-of-sequence ids, stop strings, criteria, and each operand's context window."""

    ids: frozenset[int]
    criteria: Criteria
    windows: Mapping[LLM, int | None]


class Generation:
    """One call's rows on their way through the engine. At most `max_rows` are in flight; as one ends the next
    enters."""

    def __init__(
        self,
        fusion: Fusion,
        backbones: Mapping[LLM, Backbone],
        rows: Sequence[Row],
        sampling: Sampling,
        processors: Processors,
        ending: Ending,
        stop_strings: Mapping[Row, StopStrings],
        max_rows: int,
    ):
        self.fusion = fusion
        self.exits = fusion.exits
        self.grouped: dict[Backbone, list[LLM]] = {}
        for operand, backbone in backbones.items():
            self.grouped.setdefault(backbone, []).append(operand)
        self.waiting = deque(rows)
        self.active: list[Row] = []
        self.sampling = sampling
        self.processors = processors
        self.ending = ending
        self.stop_strings = stop_strings
        self.max_rows = max_rows
        self.first_operand = next(iter(fusion.operands.values()))

    def run(self) -> Iterator[list[Row]]:
        """Yields, whenever rows got a token, these rows; a row whose `finish_reason` is set comes for the
        last time."""
        while self.waiting or self.active:
            if self.waiting and len(self.active) < self.max_rows:
                yield self.admit()
            elif self.active:
                yield self.step()

    @torch.inference_mode()
    def admit(self) -> list[Row]:
        """Fills the free slots: prefills the rows that enter and gives them their first token."""
        free = self.max_rows - len(self.active)
        entering = [self.waiting.popleft() for _ in range(min(free, len(self.waiting)))]
        started = time.perf_counter()
        self.active += entering
        self.advance(entering, self.fusion.fuse(entering, self.run_lanes(entering, self.prefill)))
        for row in entering:
            row.started, row.prefilled = started, time.perf_counter()
        self.let_go(entering)
        return entering

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """One more token for every row in flight: one forward of each backbone."""
        rows = list(self.active)
        self.advance(rows, self.fusion.fuse(rows, self.run_lanes(rows, self.decode)))
        self.let_go(rows)
        return rows

    def run_lanes(self, rows: Sequence[Row], run: RunLanes) -> LaneLogits:
        """For each operand the rows that need it, and their logits: the lanes of a backbone run together."""
        logits: dict[Leaf, tuple[Sequence[int], Tensor]] = {}
        for backbone, operands in self.grouped.items():
            chosen = {
                operand: [number for number, row in enumerate(rows) if operand in row.needed]
                for operand in operands
            }
            lanes = [(rows[number], operand) for operand, some in chosen.items() for number in some]
            if not lanes:
                continue
            parts = torch.split_with_sizes(run(backbone, lanes), [len(some) for some in chosen.values()])
            for (operand, some), part in zip(chosen.items(), parts, strict=True):
                if some:
                    logits[operand, None] = (some, part)
                for k in self.exits.get(operand, ()) if some else ():
                    early = backbone.early_logits([rows[number].lanes[operand] for number in some], k)
                    logits[operand, k] = (some, torch.cat(early))
        return logits

    @staticmethod
    def prefill(backbone: Backbone, lanes: Sequence[tuple[Row, LLM]]) -> Tensor:
        """Opens the lanes on their prompts; the logits `[lanes, vocab]` of the first tokens."""
        requests = [LaneRequest(operand.adapter, row.prompt_ids[operand]) for row, operand in lanes]
        opened, logits = backbone.open(requests)
        for (row, operand), lane in zip(lanes, opened, strict=True):
            row.lanes[operand] = lane
        return torch.cat(logits)

    @staticmethod
    def decode(backbone: Backbone, lanes: Sequence[tuple[Row, LLM]]) -> Tensor:
        """Runs each row's last token; the logits `[lanes, vocab]` of the next."""
        last = torch.tensor([row.tokens[-1] for row, _ in lanes], device=backbone.device)
        return backbone.step([row.lanes[operand] for row, operand in lanes], last)

    def advance(self, rows: Sequence[Row], fused: Fused) -> None:
        """Chooses each row's token and notes it with its log-probabilities: one transfer to the host."""
        histories: list[list[int]] = [[] for _ in rows]
        if self.processors.need_histories or self.ending.criteria:
            histories = [[*row.prompt_ids[self.first_operand], *row.tokens] for row in rows]
        scores = self.processors(fused.log_probs, histories)
        noise = None
        if not self.sampling.greedy:
            steps = [len(row.tokens) for row in rows]
            noise = exponential_noise([row.key for row in rows], steps, scores.shape[-1], scores.device)
        tokens = choose(scores, noise)
        figures = fused.of_tokens(tokens)
        table = torch.stack([tokens.double(), *(values.double() for values in figures.values())]).tolist()
        for number, row in enumerate(rows):
            values = {name: column[number] for name, column in zip(figures, table[1:], strict=True)}
            row.append(int(table[0][number]), values)
        for row, history in zip(rows, histories, strict=True):
            history.append(row.tokens[-1])
        done = self.ending.criteria(histories, scores)
        for row, criterion in zip(rows, done, strict=True):
            self.judge(row, criterion)

    def judge(self, row: Row, criterion: bool) -> None:
        """Sets the row's `finish_reason` if its last token ends it."""
        token = row.tokens[-1]
        ended_by_string = self.stop_strings[row].push(token) if row in self.stop_strings else False
        if token in self.ending.ids or criterion:
            row.finish_reason = "stop"
        elif ended_by_string:
            row.finish_reason = "stop_string"
        elif len(row.tokens) >= self.sampling.max_new_tokens or self._window_is_full(row):
            row.finish_reason = "length"

    def _window_is_full(self, row: Row) -> bool:
        return any(
            window is not None and len(row.prompt_ids[operand]) + len(row.tokens) >= window
            for operand, window in self.ending.windows.items()
            if operand in row.lanes
        )

    def let_go(self, rows: Sequence[Row]) -> None:
        """Frees the lanes of the rows that ended."""
        ended = [row for row in rows if row.finish_reason is not None]
        if not ended:
            return
        for backbone, operands in self.grouped.items():
            lanes = [row.lanes.pop(operand) for row in ended for operand in operands if operand in row.lanes]
            if lanes:
                backbone.close(lanes)
        for row in ended:
            row.ended = time.perf_counter()
        self.active = [row for row in self.active if row.finish_reason is None]

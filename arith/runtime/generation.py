"""The loop that turns rows into text: admit, step, sample, let go."""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arith.operands.llm import LLM
from arith.runtime.backbone import Backbone
from arith.runtime.fusion import Fused, Fusion
from arith.runtime.lane import Lane, LaneRequest
from arith.runtime.noise import exponential_noise
from arith.runtime.options import Sampling
from arith.runtime.processors import Processors
from arith.runtime.row import Row
from arith.runtime.sampler import choose
from arith.runtime.stopping import Criteria, StopStrings

LaneLogits = Mapping[LLM, tuple[Sequence[int], Tensor]]


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
        self.backbones = backbones
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
        with torch.inference_mode():
            while self.waiting or self.active:
                if self.waiting and len(self.active) < self.max_rows:
                    yield self.admit()
                elif self.active:
                    yield self.step()

    def admit(self) -> list[Row]:
        """Fills the free slots: prefills the rows that enter and gives them their first token."""
        entering = [
            self.waiting.popleft() for _ in range(min(self.max_rows - len(self.active), len(self.waiting)))
        ]
        started = time.perf_counter()
        logits: dict[LLM, tuple[Sequence[int], Tensor]] = {}
        for backbone, operands in self._by_backbone().items():
            places = [(row, operand) for operand in operands for row in self._having(entering, operand)]
            if not places:
                continue
            requests = [LaneRequest(operand.adapter, row.prompt_ids[operand]) for row, operand in places]
            lanes, parts = backbone.open(requests)
            for (row, operand), lane in zip(places, lanes, strict=True):
                row.lanes[operand] = lane
            for operand in operands:
                of_operand = [part for (_, one), part in zip(places, parts, strict=True) if one == operand]
                if of_operand:
                    logits[operand] = (self._chosen(entering, operand), torch.cat(of_operand))
        self.active += entering
        fused = self.fusion.fuse(entering, logits)
        self.advance(entering, fused)
        for row in entering:
            row.started, row.prefilled = started, time.perf_counter()
        self.let_go(entering)
        return entering

    def step(self) -> list[Row]:
        """One more token for every row in flight: one forward of each backbone."""
        rows = list(self.active)
        logits: dict[LLM, tuple[Sequence[int], Tensor]] = {}
        for backbone, operands in self._by_backbone().items():
            lanes: list[Lane] = []
            last: list[int] = []
            counts = {}
            for operand in operands:
                having = self._having(rows, operand)
                counts[operand] = len(having)
                lanes += [row.lanes[operand] for row in having]
                last += [row.tokens[-1] for row in having]
            if not lanes:
                continue
            parts = backbone.step(lanes, torch.tensor(last, device=backbone.device)).split(
                list(counts.values())
            )
            for operand, part in zip(operands, parts, strict=True):
                if counts[operand]:
                    logits[operand] = (self._chosen(rows, operand), part)
        self.advance(rows, self.fusion.fuse(rows, logits))
        self.let_go(rows)
        return rows

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
            row.append(int(table[0][number]), self._seen(row, values))
        for row, history in zip(rows, histories, strict=True):
            history.append(row.tokens[-1])
        done = self.ending.criteria(histories, scores)
        for row, criterion in zip(rows, done, strict=True):
            self.judge(row, criterion)

    def _seen(self, row: Row, values: dict[str, float]) -> dict[str, float]:
        """NaN for the operands that did not run for this row."""
        needed = {self.fusion.operands[name] for name in row.needed}
        return {
            name: value
            if self.fusion.operands.get(name) in needed or name not in self.fusion.operands
            else float("nan")
            for name, value in values.items()
        }

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
        for backbone, operands in self._by_backbone().items():
            lanes = [row.lanes.pop(operand) for row in ended for operand in operands if operand in row.lanes]
            if lanes:
                backbone.close(lanes)
        for row in ended:
            row.ended = time.perf_counter()
        self.active = [row for row in self.active if row.finish_reason is None]

    def _by_backbone(self) -> dict[Backbone, list[LLM]]:
        grouped: dict[Backbone, list[LLM]] = {}
        for operand, backbone in self.backbones.items():
            grouped.setdefault(backbone, []).append(operand)
        return grouped

    def _needs(self, row: Row, operand: LLM) -> bool:
        return any(self.fusion.operands[name] == operand for name in row.needed)

    def _having(self, rows: Sequence[Row], operand: LLM) -> list[Row]:
        return [row for row in rows if self._needs(row, operand)]

    def _chosen(self, rows: Sequence[Row], operand: LLM) -> list[int]:
        return [number for number, row in enumerate(rows) if self._needs(row, operand)]

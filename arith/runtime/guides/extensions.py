"""Many texts, each with many candidates for its next token, in one forward over a KV cache.

Candidates are scored as extensions by one token (ARGS: Khanov, Burapacheep, Li 2024). In the forward they
stand side by side behind the text, at one position; each sees the text and itself.
"""

from collections.abc import Hashable, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from arith.runtime.backbones.bucket import CHUNK, buckets
from arith.runtime.backbones.cache import SlotCache, slot_rows
from arith.runtime.backbones.head import MISFITS, misfit
from arith.runtime.backbones.masks import MaskLayout, mask_layout
from arith.runtime.backbones.prefix import Prefill, PrefixIndex, common_length, cover, split_wave
from arith.runtime.backbones.rounding import agree
from arith.runtime.guides.sequence_model import TOKENS_PER_FORWARD, SequenceModel
from arith.runtime.guides.stats import GuideStats

LEAVES = 1024  # of one text in a forward: they see one another's places, though not their contents
_TRIAL = 24  # tokens
_FIRST_CAPACITY = 256
_GROWTH = 1.5

Tokens = tuple[int, ...]


class Extensions:
    """Keeps the keys and values of each row's text, from which its next step goes on.

    A row keeps its slot until another one needs it; a text that isn't the slot's own with more tokens behind
    starts from what the two, or those of any slot, have in common.
    """

    def __init__(self, model: PreTrainedModel, head: nn.Module, layout: MaskLayout, stats: GuideStats):
        self._model = model
        self._trunk: Any = model.base_model
        self._head = head
        self._layout = layout
        self._stats = stats
        self._cache = SlotCache()
        self._slots: dict[Hashable, int] = {}  # the rows seen last stand last
        self._stored: list[Tokens] = []  # for each slot the tokens whose keys and values are in it

    @torch.inference_mode()
    def read(
        self, rows: Sequence[Hashable], stems: Sequence[Tokens], leaves: Sequence[Sequence[int]]
    ) -> Tensor:
        """The outputs `[rows, 1 + k, outputs]` (float32, on the model's device) at the end of each row's stem
        (at least one token) and at each of its k leaves behind it. A row may be named several times."""
        self._claim(dict.fromkeys(rows))
        self._reserve(max(map(len, stems)) + min(LEAVES, len(leaves[0])))
        candidates = torch.tensor(leaves, dtype=torch.long, device=self._model.device)
        answers: dict[int, Tensor] = {}
        at_once = max(1, TOKENS_PER_FORWARD // (1 + min(LEAVES, candidates.shape[1])))
        for turn in _turns(rows):
            for start in range(0, len(turn), at_once):
                group = sorted(turn[start : start + at_once], key=lambda one: self._slots[rows[one]])
                slots = [self._slots[rows[one]] for one in group]
                found = self._read(slots, [stems[one] for one in group], candidates[group])
                answers.update(zip(group, found, strict=True))
        return torch.stack([answers[at] for at in range(len(rows))])

    def reset(self) -> None:
        """Forget every row and give the memory of the cache back."""
        self._cache.clear()
        self._slots.clear()
        self._stored.clear()

    def _claim(self, rows: dict[Hashable, None]) -> None:
        """A slot for each row, that of the row longest unseen where a new one is needed."""
        absent = [row for row in self._slots if row not in rows]
        absent.reverse()
        for row in rows:
            if row in self._slots:
                slot = self._slots.pop(row)
            elif absent:
                slot = self._slots.pop(absent.pop())
            else:
                slot = len(self._stored)
                self._stored.append(())
            self._slots[row] = slot

    def _reserve(self, length: int) -> None:
        slots, capacity = self._cache.slots, self._cache.capacity
        if len(self._stored) > slots:
            slots = max(len(self._stored), int(_GROWTH * slots))
        if length > capacity:
            capacity = max(length, int(_GROWTH * capacity), _FIRST_CAPACITY)
        self._cache.reserve(slots, capacity)

    def _read(self, slots: list[int], stems: list[Tokens], candidates: Tensor) -> Tensor:
        pieces = torch.split(candidates, LEAVES, dim=1) if candidates.shape[1] else (candidates,)
        try:
            self._catch_up(slots, stems)
            found = [self._extend(slots, stems, piece) for piece in pieces]
        except BaseException:  # memory may have run out anywhere in it
            for slot in slots:
                self._stored[slot] = ()
            raise
        for slot, stem in zip(slots, stems, strict=True):
            self._stored[slot] = stem
        self._stats.texts_run += candidates.shape[0] * (1 + candidates.shape[1])
        return torch.cat([found[0], *(piece[:, 1:] for piece in found[1:])], dim=1)

    def _extend(self, slots: list[int], stems: list[Tokens], leaves: Tensor) -> Tensor:
        """One forward of each stem's last token and its leaves; outputs `[rows, 1 + leaves, outputs]`."""
        device = leaves.device
        lengths = torch.tensor([len(stem) for stem in stems], device=device)
        last = torch.tensor([[stem[-1]] for stem in stems], device=device)
        cells = lengths[:, None] - 1 + torch.arange(1 + leaves.shape[1], device=device)
        length = max(map(len, stems)) + leaves.shape[1]
        mask = self._layout.build_leaves(cells, lengths, length, self._model.dtype)
        hidden = self._forward(
            slots, torch.cat([last, leaves], dim=1), cells, cells.minimum(lengths[:, None]), length, mask
        )
        outputs: Tensor = self._head(hidden)
        return outputs.float()

    def _catch_up(self, slots: list[int], stems: list[Tokens]) -> None:
        """Run what the slots lack of their stems, the last token aside."""
        index = PrefixIndex((None, tokens, slot) for slot, tokens in enumerate(self._stored))
        waiting = []
        for slot, stem in zip(slots, stems, strict=True):
            before = stem[:-1]
            covered = common_length(self._stored[slot], before)
            waiting.append(Prefill(None, before, slot, keep=0, covered=covered))
        waiting = [one for one in waiting if one.rest]
        while waiting:
            copies = cover(index, waiting)
            self._cache.copy(
                [source for source, _ in copies],
                [target for _, target in copies],
                max(one.covered for one in waiting),
            )
            now, waiting = split_wave([one for one in waiting if one.rest])
            for bucket in buckets([one.rest for one in now]):
                self._fill(sorted((now[one] for one in bucket), key=lambda one: one.slot))
            index = PrefixIndex((None, one.tokens, one.slot) for one in now)

    def _fill(self, group: list[Prefill]) -> None:
        """Run the rest of each, chunk by chunk; a shorter one repeats its last token in its place."""
        device = self._model.device
        longest = max(one.rest for one in group)
        spans = [[min(one.covered + at, len(one.tokens) - 1) for at in range(longest)] for one in group]
        cells = torch.tensor(spans, device=device)
        tokens = torch.tensor(
            [[one.tokens[at] for at in span] for one, span in zip(group, spans, strict=True)], device=device
        )
        for start in range(0, longest, CHUNK):
            part = cells[:, start : start + CHUNK]
            length = max(span[min(start + CHUNK, longest) - 1] for span in spans) + 1
            mask = self._layout.build(part, length, self._model.dtype)
            self._forward(
                [one.slot for one in group], tokens[:, start : start + CHUNK], part, part, length, mask
            )

    def _forward(
        self, slots: list[int], tokens: Tensor, cells: Tensor, positions: Tensor, length: int, mask: Any
    ) -> Tensor:
        """The last hidden states of `tokens` `[rows, tokens]`, which are stored in `cells` of their slots."""
        at = torch.tensor(slots, device=cells.device)
        self._cache.place(at, cells, slot_rows(slots, at), length)
        self._stats.forwards += 1
        output = self._trunk(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden


def extensions(model: SequenceModel) -> Extensions | str:
    """The extensions of a model, or why it can't have any: found by its parts, and by a small trial."""
    if "past_key_values" not in signature(model.model.forward).parameters:
        return "it takes no KV cache"
    layout = mask_layout(model.model.config)
    if isinstance(layout, str):
        return layout
    heads = [part for part in model.model.children() if part is not model.model.base_model]
    if len(heads) != 1:
        return "it has no head of a single layer"
    found = Extensions(model.model, heads[0], layout, model.stats)
    room = min(_TRIAL, model.encoder.window or _TRIAL)
    tokens = tuple(token for token in range(room) if token != model.padding)
    stems, leaves = [tokens[:-1], tokens[:3]], [tokens[-2:], tokens[2:4]]
    try:
        outputs = found.read([0, 1], stems, leaves).cpu()
    except MISFITS as error:
        return f"its code doesn't take our KV cache ({misfit(error)})"
    finally:
        found.reset()
    texts = [
        text
        for stem, row in zip(stems, leaves, strict=True)
        for text in (stem, *((*stem, leaf) for leaf in row))
    ]
    expected = model.read_tokens(texts)
    model.reset()
    model.stats.reset()
    if agree(outputs.flatten(0, 1), expected):
        return found
    return "its outputs over our KV cache differ from those of a plain forward"


def _turns(rows: Sequence[Hashable]) -> list[list[int]]:
    """Indices into `rows`, in lists which name no row twice."""
    turns: list[list[int]] = []
    seen: dict[Hashable, int] = {}
    for at, row in enumerate(rows):
        turn = seen[row] = seen.get(row, -1) + 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append(at)
    return turns

"""The model of guides, run on whole texts: in few large batches, and each text once."""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from arith.operands.packing import pack_linears
from arith.runtime.backbones.rounding import agree
from arith.runtime.guides.encoder import IDS, Encoding, TextEncoder
from arith.runtime.guides.stats import GuideStats

TOKENS_PER_FORWARD = 16384
MOST_TEXTS = 65536  # whose outputs are kept

Outputs = tuple[float, ...]


class SequenceModel:
    """A sequence classification model, which it changes and owns from now on, with its encoder. It keeps the
    outputs of the texts read last. With `half` its linear layers keep float16 weights.

    Texts of different lengths share a forward where a trial shows that padding changes nothing.
    """

    def __init__(self, model: PreTrainedModel, encoder: TextEncoder, *, half: bool = False):
        pack_linears(model, half=half)
        self.model = model
        self.encoder = encoder
        self.stats = GuideStats()
        self._takes = frozenset(inspect.signature(model.forward).parameters)
        self._own_padding: int | None = model.config.get_text_config().pad_token_id
        self._known: OrderedDict[Hashable, Outputs] = OrderedDict()
        self._mixes_lengths = True
        self._mixes_lengths = self._padding_is_harmless()

    @property
    def padding(self) -> int | None:
        """The token that the model itself takes for padding, wherever it stands in a text."""
        return self._own_padding

    def read_texts(self, texts: Sequence[str], *, special: bool) -> Tensor:
        """The outputs `[texts, outputs]` (float32, on the CPU); `special` as in `TextEncoder.encode`."""
        return self._read(
            [(special, text) for text in texts],
            lambda keys: self.encoder.encode([text for _, text in keys], special=special),
        )

    def read_tokens(self, texts: Sequence[tuple[int, ...]]) -> Tensor:
        """The outputs `[texts, outputs]` (float32, on the CPU) of texts that are tokens already."""
        return self._read(texts, lambda keys: [{IDS: self.encoder.shorten(key)} for key in keys])

    def reset(self) -> None:
        """Forget all texts."""
        self._known.clear()

    def _read(self, keys: Sequence[Any], encode: Callable[[list[Any]], list[Encoding]]) -> Tensor:
        found = {key: self._known.get(key) for key in keys}
        missing = [key for key, outputs in found.items() if outputs is None]
        if missing:
            found.update(zip(missing, self._run(encode(missing)).tolist(), strict=True))
        self.stats.texts_run += len(missing)
        self.stats.cache_hits += len(keys) - len(missing)
        for key, outputs in found.items():
            assert outputs is not None
            self._known[key] = outputs
            self._known.move_to_end(key)
        while len(self._known) > MOST_TEXTS:
            self._known.popitem(last=False)
        return torch.tensor([found[key] for key in keys], dtype=torch.float32)

    def _run(self, encodings: Sequence[Encoding]) -> Tensor:
        """The outputs `[texts, outputs]`, in batches of nearly equal length."""
        answers: dict[int, Tensor] = {}
        for batch in self._batches([len(one[IDS]) for one in encodings]):
            outputs = self._forward([encodings[at] for at in batch])
            answers.update(zip(batch, outputs.float().cpu(), strict=True))
        return torch.stack([answers[at] for at in range(len(encodings))])

    def _batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Indices into `lengths`, the longest first."""
        batches: list[list[int]] = []
        longest = 0
        for at in sorted(range(len(lengths)), key=lambda one: -lengths[one]):
            fits = batches and (len(batches[-1]) + 1) * longest <= TOKENS_PER_FORWARD
            if fits and (self._mixes_lengths or lengths[at] == longest):
                batches[-1].append(at)
            else:
                batches.append([at])
                longest = lengths[at]
        return batches

    @torch.inference_mode()
    def _forward(self, encodings: Sequence[Encoding]) -> Tensor:
        longest = max(len(one[IDS]) for one in encodings)
        padding = self._own_padding
        if padding is None:
            padding = self._set_padding({token for one in encodings for token in one[IDS]})
            if padding is None and len(encodings) > 1:
                middle = len(encodings) // 2
                return torch.cat([self._forward(encodings[:middle]), self._forward(encodings[middle:])])
        fillers = {name: 0 for name in encodings[0] if name in self._takes} | {IDS: padding or 0}
        inputs = {
            name: [[*one[name], *[filler] * (longest - len(one[name]))] for one in encodings]
            for name, filler in fillers.items()
        }
        inputs["attention_mask"] = [
            [1] * len(one[IDS]) + [0] * (longest - len(one[IDS])) for one in encodings
        ]
        tensors = {name: torch.tensor(rows, device=self.model.device) for name, rows in inputs.items()}
        self.stats.forwards += 1
        logits: Tensor = self.model(**tensors).logits
        return logits

    def _set_padding(self, used: set[int]) -> int | None:
        """For a model that names no padding: one that none of the texts uses, or None where there is none.

        The model takes the last token that isn't its padding for the end of a text.
        """
        config = self.model.config.get_text_config()
        padding = next((token for token in range(config.vocab_size) if token not in used), None)
        for one in (self.model.config, config):
            one.pad_token_id = padding
        return padding

    def _padding_is_harmless(self) -> bool:
        encodings = self.encoder.encode(["a", "a b c d e f g h i j k l"], special=True)
        alone = torch.cat([self._forward([one]) for one in encodings])
        together = self._forward(encodings)
        self.stats.reset()
        return agree(together, alone)

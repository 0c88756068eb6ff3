"""What comes of a generation: its results as rows end, or their text as it is written."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from arith.runtime.generation import Generation
from arith.runtime.result import Piece, Result
from arith.runtime.sampling.text import TextDecoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def results_of(
    generation: Generation, seed: int, tokenizer: "PreTrainedTokenizerBase", streamer: Any
) -> Iterator[Result]:
    """Each row's result when it ends; `streamer`, transformers' or None, is given the only row's tokens."""
    if streamer is not None and generation.waiting:
        row = generation.waiting[0]
        streamer.put(torch.tensor([row.prompt_ids[next(iter(row.names.values()))]]))
    for rows in generation.run():
        for row in rows:
            if streamer is not None and (tokens := row.release()):
                streamer.put(torch.tensor(tokens))
            if row.finish_reason is not None:
                yield row.result(seed, tokenizer)


def pieces_of(generation: Generation, seed: int, tokenizer: "PreTrainedTokenizerBase") -> Iterator[Piece]:
    """Each row's text in pieces as it comes; the last one has its result."""
    decoders = {row: TextDecoder(tokenizer) for row in generation.waiting}
    for rows in generation.run():
        for row in rows:
            tokens = row.release()
            text = "".join(map(decoders[row].push, tokens))
            result = None
            if row.finish_reason is not None:
                text += decoders.pop(row).flush()
                result = row.result(seed, tokenizer)
            yield Piece(row.index, row.sample, text, tokens, result)

"""Early exits: hidden states after chosen layers, kept from forwards that run anyway, and their logits."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from arith.errors import OperandError
from arith.operands.loading import depth
from arith.runtime.backbones.decoder import find_decoder, hidden_states
from arith.runtime.backbones.head import at_columns
from arith.runtime.backbones.lane import Lane
from arith.runtime.backbones.lora import LaneAdapters

_TRIAL = (0, 1, 1)


class EarlyExits:
    """Keeps the hidden states of `exits`: of the embeddings (0), or those after layer 1, 2, … of the model.

    Logits of early layers are what the model's final norm and output layer make of them (as in DoLa,
    Chuang et al. 2024).
    """

    def __init__(self, model: PreTrainedModel, exits: Sequence[int], adapters: LaneAdapters, vocabulary: int):
        """Raises `OperandError` for an exit which the model lacks, or whose logits can't be had from it."""
        self.exits = tuple(dict.fromkeys(exits))
        self._model = model
        self._adapters = adapters
        self._vocabulary = vocabulary
        self._decoder = None
        if not self.exits:
            return
        layers = depth(model.config)
        beyond = [exit for exit in self.exits if not 0 <= exit <= layers]
        if beyond:
            raise OperandError(
                f"{model.name_or_path or model.config.model_type} has {layers} layers: there is no exit "
                f"after layer {beyond[0]}",
                f"an exit is a number from 0 (the embeddings) to {layers}",
            )
        adapters.select([next(iter(adapters.known))], len(_TRIAL))
        with torch.inference_mode():
            self._decoder = find_decoder(model, torch.tensor([_TRIAL], device=model.device))

    @contextmanager
    def capture(self, columns: Tensor | None) -> Iterator[dict[int, Tensor]]:
        """Within it, a forward of the model fills the dict it gives: for each exit the hidden states
        `[rows, n, hidden]` at `columns` `[rows, n]` (None: of every token)."""
        kept: dict[int, Tensor] = {}
        handles = [self._keep(exit, columns, kept) for exit in self.exits]
        try:
            yield kept
        finally:
            for handle in handles:
                handle.remove()

    def logits(self, lanes: Sequence[Lane], exit: int) -> list[Tensor]:
        """The logits `[keep, vocabulary]` of each lane's hidden states at `exit`, all run at once."""
        if self._decoder is None or exit not in self.exits:
            raise ValueError(f"this backbone doesn't keep the exit {exit}")
        states = [lane.early[exit] for lane in lanes]
        keeps = [len(one) for one in states]
        # Positions stand as rows of one token each: lanes may keep different numbers of them.
        self._adapters.select(
            [lane.adapter for lane, keep in zip(lanes, keeps, strict=True) for _ in range(keep)], 1
        )
        logits = self._decoder.logits(self._model, torch.cat(states)[:, None])
        return list(torch.split(logits[:, 0, : self._vocabulary].to(self._model.device), keeps))

    def _keep(self, exit: int, columns: Tensor | None, kept: dict[int, Tensor]) -> RemovableHandle:
        assert self._decoder is not None
        layers = self._decoder.layers

        def keep(states: Tensor) -> None:
            # A copy: the code of a later layer may work in place.
            kept[exit] = states.clone() if columns is None else at_columns(states, columns)

        def entering(_layer: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            keep(arguments[0] if arguments else named["hidden_states"])

        def leaving(_layer: nn.Module, _arguments: tuple[Any, ...], output: Any) -> None:
            keep(hidden_states(output))

        if exit == 0:
            return layers[0].register_forward_pre_hook(entering, with_kwargs=True)
        return layers[exit - 1].register_forward_hook(leaving)

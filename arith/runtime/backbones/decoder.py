"""The decoder of a model: its layers, and what becomes of the hidden states after the last of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from arith.errors import OperandError
from arith.operands.loading import depth
from arith.runtime.backbones.head import MISFITS, without_cache
from arith.runtime.backbones.memory import out_of_memory
from arith.runtime.backbones.rounding import agree


@dataclass(frozen=True)
class Decoder:
    """The part of a causal language model that ends where the output layer begins.

    `module` runs `layers` and then `after` (as a rule one norm), each on what the one before it gave. It
    returns the hidden states in an `output`.
    """

    module: nn.Module
    layers: nn.ModuleList
    after: tuple[nn.Module, ...]
    output: type[Any]

    def logits(self, model: PreTrainedModel, states: Tensor) -> Tensor:
        """The logits `[rows, n, vocabulary]` that `model` gives to the hidden states `[rows, n, hidden]` of a
        layer, were it the last one.

        The model's own forward runs around a decoder that has its hidden states already, so that whatever
        the model does before and after its output layer (casts, scaling, soft caps) stays the model's.
        """
        for module in self.after:
            states = module(states)
        ignored = torch.zeros(states.shape[:2], dtype=torch.int64, device=model.device)
        with self._returning(states):
            logits: Tensor = model(input_ids=ignored).logits
        return logits

    @contextmanager
    def _returning(self, states: Tensor) -> Iterator[None]:
        """Within it, the decoder returns the hidden states `states` whatever it's given."""
        result = (states,) if self.output is tuple else self.output(last_hidden_state=states)
        attributes = vars(self.module)
        before = attributes.get("forward")
        attributes["forward"] = lambda *_arguments, **_named: result
        try:
            yield
        finally:
            if before is None:
                del attributes["forward"]
            else:
                attributes["forward"] = before


def find_decoder(model: PreTrainedModel, tokens: Tensor) -> Decoder:
    """The decoder of `model`, found by forwards of `tokens` `[1, n]`.

    It is the first module with a list of as many layers as the configuration tells which, given the last
    layer's hidden states, leads to the model's own logits. Raises `OperandError` where there is none.
    """
    layers = depth(model.config)
    for place, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == layers:
            decoder = _decoder_over(model, model.get_submodule(place.rpartition(".")[0]), module, tokens)
            if decoder is not None:
                return decoder
    name = model.name_or_path or model.config.model_type
    raise OperandError(
        f"the hidden states between the layers of {name} can't be turned into logits: none of its modules "
        f"runs a list of {layers} layers and hands their result to the output layer",
        "formulas over this model can't use its early exits",
    )


def hidden_states(output: Any) -> Any:
    """Those in what a layer gives: some give nothing else, some put further things behind them."""
    return output[0] if isinstance(output, tuple) else output


def _decoder_over(
    model: PreTrainedModel, owner: nn.Module, layers: nn.ModuleList, tokens: Tensor
) -> Decoder | None:
    """The decoder `owner` over these layers, or None where they aren't those of the model's decoder."""
    outputs: dict[nn.Module, Any] = {}

    def note(module: nn.Module, _arguments: Any, output: Any) -> None:
        outputs.pop(module, None)  # in the order of their last calls
        outputs[module] = output

    last = layers[-1]
    noted = dict.fromkeys([*owner.children(), last, owner])
    handles = [module.register_forward_hook(note) for module in noted if module is not model]
    try:
        expected: Tensor = model(input_ids=tokens, **without_cache(model)).logits
    finally:
        for handle in handles:
            handle.remove()
    if last not in outputs or owner not in outputs:
        return None
    states = hidden_states(outputs[last])
    kind = type(outputs[owner])
    if states.shape[:-1] != tokens.shape or not (kind is tuple or issubclass(kind, ModelOutput)):
        return None
    order = list(outputs)
    after = tuple(order[order.index(last) + 1 : order.index(owner)])
    decoder = Decoder(owner, layers, after, kind)
    try:
        found = decoder.logits(model, states)
    except MISFITS as error:
        if out_of_memory(error):
            raise
        return None
    return decoder if found.shape == expected.shape and agree(found, expected) else None

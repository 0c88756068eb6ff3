"""Linear layers over the same states as one multiplication, on a processor with packed layers.

The projections to queries, keys and values read the same states, and so do those of a gated feed-forward
layer. One wide product is quicker than three narrow ones, and the A matrices of LoRA adapters (see `lora`)
are further outputs of it; so are those of a single layer, unless it is one in blocks (see `adapted_linear`).
Which layers belong together is seen in a forward of the model.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from arith.operands.blocked_linear import BlockedLinear
from arith.operands.half_linear import fits
from arith.operands.packed_weight import PackedWeight
from arith.operands.packing import packable, packed, packed_kind
from arith.runtime.backbones.adapted_linear import AdaptedLinear
from arith.runtime.backbones.head import MISFITS, misfit, without_cache
from arith.runtime.backbones.lora import LaneAdapters, MixedLora

Layer = nn.Linear | MixedLora
_TRIAL = (0, 1, 2)  # the tokens of the forward in which it is seen which layers belong together


class Joint(nn.Module):
    """Several layers over the same states. The one that is called first has all of them computed; the others
    find their parts there."""

    def __init__(self, layers: Sequence[Layer], lanes: LaneAdapters, *, half: bool = False):
        super().__init__()
        linears = [_linear(layer) for layer in layers]
        adapted = [(number, layer) for number, layer in enumerate(layers) if isinstance(layer, MixedLora)]
        self.lanes = lanes
        self.place = adapted[0][1].place if adapted else ""
        half = half and all(fits(linear.weight) for linear in linears)
        matrices = [_balanced(layer) if half else (layer.down.t(), layer.up) for _, layer in adapted]
        downs = [down for down, _ in matrices]
        self.product = packed(_stacked(linears, downs, half=half), half=half)
        self.widths = [linear.out_features for linear in linears]
        self.wide, self.ranks = sum(self.widths), sum(map(len, downs))
        self.sizes = [*self.widths, self.product.out_features - self.wide]
        # The parts of a product: outputs of the layers, low-rank states of those with adapters, and the rest.
        ranks = [len(down) for down in downs]
        self.cuts = [*self.widths, *ranks, self.product.out_features - self.wide - self.ranks]
        # Of each layer with adapters: the numbers of both its parts, and its B matrices, which are found here
        # without a look-up of buffers.
        self.adapted: list[tuple[int, int, Tensor]] = []
        for (number, _), (_, up) in zip(adapted, matrices, strict=True):
            self.adapted.append((number, len(layers) + len(self.adapted), up))
            self.register_buffer(f"up_{number}", up)
        layout = tuple(owner for _, layer in adapted for owner in layer.layout)
        self.mask = lanes.number(layout, downs[0]) if downs else None
        self._states: Tensor | None = None
        self._parts: Sequence[Tensor] = ()

    def part(self, number: int, states: Tensor) -> Tensor:
        """What that layer gives: `[..., in]` to `[..., out]`."""
        if len(self.widths) == 1:
            return self.parts(states)[0]
        if states is not self._states:
            self._parts, self._states = self.parts(states), states
        part = self._parts[number]
        if number == len(self.widths) - 1:
            self._states, self._parts = None, ()
        return part

    def parts(self, states: Tensor) -> Sequence[Tensor]:
        """What each layer gives, and behind it what no layer does."""
        parts: Sequence[Tensor] = self.run(states).split_with_sizes(self.sizes, dim=-1)
        return parts

    def run(self, states: Tensor) -> Tensor:
        """What all layers give side by side: `[..., in]` to `[..., wide]` and further columns."""
        product: Tensor = self.product.forward(states)
        mask = None if self.mask is None else self.lanes.masks[self.mask]
        if mask is not None:
            low = product.narrow(-1, self.wide, self.ranks)
            self.lanes.by_lane(low, mask.shape[0], self.place).mul_(mask)
            flat: Sequence[Tensor] = product.view(-1, product.shape[-1]).split_with_sizes(self.cuts, dim=1)
            for output, low_states, up in self.adapted:
                flat[output].addmm_(flat[low_states], up)
        return product


class JoinedLinear(nn.Module):
    """Takes the place of one of the layers of a `Joint`."""

    def __init__(self, joint: Joint, number: int):
        super().__init__()
        self.joint = joint
        self.number = number
        self.in_features, self.out_features = joint.product.in_features, joint.widths[number]

    @property
    def weight(self) -> Tensor:
        """The base's weights `[out, in]`, for code that looks at them (see `PackedWeight`)."""
        whole = self.joint.product.weight
        shape = self.out_features, self.in_features
        return PackedWeight(lambda: whole.split_with_sizes(self.joint.sizes)[self.number], shape, whole.dtype)

    def forward(self, states: Tensor) -> Tensor:
        return self.joint.part(self.number, states)


def joint_of(module: nn.Module, *names: str) -> Joint | None:
    """The joint of a module's layers of these names, where it has them in this order and no others."""
    layers = [getattr(module, name, None) for name in names]
    joined = [layer for layer in layers if isinstance(layer, JoinedLinear)]
    if [layer.number for layer in joined] != list(range(len(names))):
        return None
    joint = joined[0].joint
    alone = len(joint.widths) == len(names) and all(layer.joint is joint for layer in joined)
    return joint if alone else None


def join_linears(model: PreTrainedModel, lanes: LaneAdapters, *, half: bool = False) -> None:
    """Put `JoinedLinear`s in the place of linear layers that are given the same states one after another, and
    in the place of every single one with adapters.

    Layers of one module only are joined, and only those for which the processor has packed kernels. `half` as
    in `packed`.
    """
    layers: dict[str, Layer] = {}
    for place, layer in _outer_modules(model).items():
        if _joinable(layer):
            layers[place] = layer
    lanes.select([next(iter(lanes.known))], len(_TRIAL))
    groups = _groups(model, layers)
    joined = {place for group in groups for place in group}
    groups += [
        [place] for place, layer in layers.items() if isinstance(layer, MixedLora) and place not in joined
    ]
    for group in groups:
        # By their places alone, so that their memory is free before others are made.
        members = _members([layers.pop(place) for place in group], lanes, half=half)
        for place, member in zip(group, members, strict=True):
            parent, _, name = place.rpartition(".")
            setattr(model.get_submodule(parent), name, member)


def _members(layers: Sequence[Layer], lanes: LaneAdapters, *, half: bool) -> Sequence[nn.Module]:
    """What takes the places of layers that belong together, or of a single one with adapters."""
    first = layers[0]
    if len(layers) == 1 and isinstance(first, MixedLora):
        weight = _linear(first).weight
        if packed_kind(weight.shape, weight.dtype, half=half) is BlockedLinear:
            return [AdaptedLinear(first)]
    joint = Joint(layers, lanes, half=half)
    return [JoinedLinear(joint, number) for number in range(len(layers))]


@dataclass(frozen=True)
class _Call:
    """A layer's call: the states that it was given (None: something else), and a copy of what they were."""

    place: str
    states: Tensor | None
    copy: Tensor | None

    def goes_with(self, other: "_Call") -> bool:
        if self.states is None or self.copy is None or other.copy is None:
            return False
        same_module = self.place.rpartition(".")[0] == other.place.rpartition(".")[0]
        return self.states is other.states and same_module and torch.equal(self.copy, other.copy)


def _groups(model: PreTrainedModel, layers: Mapping[str, Layer]) -> list[list[str]]:
    """The layers that can be joined, two at least, in the order of their calls."""
    calls = _calls(model, layers)
    times = Counter(call.place for call in calls)
    groups: list[list[_Call]] = []
    for call in calls:
        if groups and times[call.place] == 1 and call.goes_with(groups[-1][-1]):
            groups[-1].append(call)
        else:
            groups.append([call])
    once = [[call.place for call in group] for group in groups if times[group[0].place] == 1]
    return [group for group in once if len(group) > 1]


def _calls(model: PreTrainedModel, layers: Mapping[str, Layer]) -> list[_Call]:
    """The calls of these layers in a forward of the model; none where it takes no such forward."""
    calls: list[_Call] = []

    def note(place: str) -> Any:
        def hook(_layer: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            states = arguments[0] if len(arguments) == 1 and not named else None
            calls.append(_Call(place, states, None if states is None else states.clone()))

        return hook

    handles = [one.register_forward_pre_hook(note(place), with_kwargs=True) for place, one in layers.items()]
    try:
        with torch.inference_mode():
            model(input_ids=torch.tensor([_TRIAL], device=model.device), **without_cache(model))
    except MISFITS as error:
        misfit(error)  # raises it again where memory ran out
        return []
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _outer_modules(model: nn.Module) -> dict[str, nn.Module]:
    """All modules by their places, but for those inside layers of LoRA, peft's ones and ours."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    outer: list[Any] = [one for one in model.modules() if isinstance(one, BaseTunerLayer | MixedLora)]
    inner = {id(part) for layer in outer for part in layer.modules() if part is not layer}
    return {place: layer for place, layer in model.named_modules() if id(layer) not in inner}


def _joinable(layer: nn.Module) -> TypeGuard[Layer]:
    if not isinstance(layer, MixedLora):
        return packable(layer)
    base = layer.base_layer
    return not layer.embeds and packable(base) and layer.down.dtype == base.weight.dtype


def _linear(layer: Layer) -> nn.Linear:
    return cast(nn.Linear, layer.base_layer) if isinstance(layer, MixedLora) else layer


def _balanced(layer: MixedLora) -> tuple[Tensor, Tensor]:
    """The layer's A and B matrices, each rank scaled by a power of 2 so that its largest number in A is about
    1: float16 has as many bits for it then as for the base's weights."""
    down = layer.down.t()
    _, exponents = torch.frexp(down.abs().amax(dim=1, keepdim=True))
    scale = torch.ldexp(torch.ones_like(exponents, dtype=down.dtype), exponents)
    return down / scale, layer.up * scale


def _stacked(linears: Sequence[nn.Linear], downs: Sequence[Tensor], *, half: bool) -> nn.Linear:
    """One layer with the outputs of all of these, of matrices `[ranks, in]` that have no bias, and perhaps
    some that are 0 (`filler`)."""
    parts = [*(linear.weight.detach() for linear in linears), *downs]
    outputs, inputs = sum(map(len, parts)), parts[0].shape[1]
    added = packed_kind(torch.Size([outputs, inputs]), parts[0].dtype, half=half).filler(outputs)
    weight = torch.cat([*parts, parts[0].new_zeros(added, inputs)])
    joined = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    joined.weight = nn.Parameter(weight, requires_grad=False)
    if any(linear.bias is not None for linear in linears):
        biases = [
            weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias.detach()
            for linear in linears
        ]
        rest = len(weight) - sum(map(len, biases))
        joined.bias = nn.Parameter(torch.cat([*biases, weight.new_zeros(rest)]), requires_grad=False)
    return joined

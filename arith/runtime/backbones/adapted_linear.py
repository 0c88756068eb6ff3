"""A single linear layer of float32 in blocks, with the LoRA adapters of all lanes."""

from typing import cast

from torch import Tensor, nn

from arith.operands.blocked_linear import BlockedLinear
from arith.runtime.backbones.lora import MixedLora


class AdaptedLinear(nn.Module):
    """Takes the place of a linear layer with adapters (see `lora`) that is joined with no others.

    Its A matrices are a product of their own. As further outputs of the layer (see `joined`) they would take
    a block of these, and of two cores with the same number of blocks to read one would get another.
    """

    def __init__(self, layer: MixedLora):
        super().__init__()
        self.product = BlockedLinear(cast(nn.Linear, layer.base_layer))
        self.in_features, self.out_features = self.product.in_features, self.product.out_features
        self.lanes, self.place, self.number = layer.lanes, layer.place, layer.number
        self.register_buffer("down", layer.down)
        self.register_buffer("up", layer.up)
        self.matrices = layer.down, layer.up  # the same, found without a look-up of buffers

    @property
    def weight(self) -> Tensor:
        """The base's weights `[out, in]`, for code that looks at them (see `PackedWeight`)."""
        return self.product.weight

    def forward(self, states: Tensor) -> Tensor:
        """`[..., in]` to `[..., out]`."""
        product: Tensor = self.product.forward(states)
        mask = self.lanes.masks[self.number]
        if mask is not None:
            down, up = self.matrices
            low = states.reshape(-1, states.shape[-1]).mm(down)
            self.lanes.by_lane(low.view(*states.shape[:-1], -1), mask.shape[0], self.place).mul_(mask)
            product.view(-1, product.shape[-1]).addmm_(low, up)
        return product

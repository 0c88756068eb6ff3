"""What a model's weights take when it is ready to run."""

from torch import nn

from arith.operands.packing import pack_linears


def packed_size(model: nn.Module) -> int:
    """Packs its linear layers; the bytes of all weights then."""
    pack_linears(model)
    packed = [one for name, one in model.named_buffers() if name.endswith((".packed", ".blocks"))]
    return sum(one.nbytes for one in [*model.parameters(), *packed])

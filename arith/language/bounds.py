"""How many tokens a part of a formula can have in its support, as far as that is known beforehand."""

import math
from collections.abc import Sequence

from arith.language.graph import Called, Node

NARROWING = ("top_p", "min_p", "typical", "epsilon", "normalize", "temper", "except_tokens")


def most_tokens(nodes: Sequence[Node], number: int) -> float:
    """The most tokens in the support of a node, ties aside; infinite where nothing is known."""
    node = nodes[number]
    if not isinstance(node.payload, Called) or not node.inputs:
        return math.inf
    inner = most_tokens(nodes, node.inputs[0])
    if node.payload.operator == "top_k":
        k = nodes[node.inputs[1]]
        return min(inner, k.payload) if isinstance(k.payload, float) else inner
    if node.payload.operator == "within":
        return min(inner, most_tokens(nodes, node.inputs[1]))
    return inner if node.payload.operator in NARROWING else math.inf

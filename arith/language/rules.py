"""The typing rules of arithmetic: what a sum, product, quotient or comparison of two types is."""

from arith.language.values import Type

S, D, V, M = Type.SCALAR, Type.DIST, Type.VEC, Type.MASK
EVERY = frozenset(Type)


def as_value(kind: Type) -> Type:
    """The type that an arithmetic expression sees: a mask counts as a vec of zeros and ones."""
    return V if kind is M else kind


def add(a: Type, b: Type) -> Type:
    """The type of `a + b` and `a - b`; there always is one."""
    pair = {as_value(a), as_value(b)}
    if D in pair:
        return D
    return V if V in pair else S


def multiply(a: Type, b: Type) -> Type | None:
    """The type of `a * b`, None where it has no meaning: only a scalar may multiply a dist."""
    a, b = as_value(a), as_value(b)
    if S in (a, b):
        return b if a is S else a
    return V if a is b is V else None


def divide(a: Type, b: Type) -> Type | None:
    """The type of `a / b`, None where it has no meaning: nothing divides by a dist, and only a scalar divides
    one."""
    a, b = as_value(a), as_value(b)
    if b is S:
        return a
    return V if b is V and a is not D else None


def compare(a: Type, b: Type) -> Type | None:
    """The type of a comparison: a mask, of two equal types or with a scalar on one side."""
    a, b = as_value(a), as_value(b)
    return M if a is b or S in (a, b) else None

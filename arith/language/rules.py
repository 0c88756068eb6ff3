"""The typing rules of arithmetic: what a sum, product, quotient or comparison of two types is."""

from arith.language.values import Type

S, D, V, M, C, T = Type.SCALAR, Type.DIST, Type.VEC, Type.MASK, Type.CLASSIFIER, Type.TEXT
EVERY = frozenset(Type)
NUMERIC = frozenset({S, D, V})


def as_value(kind: Type) -> Type:
    """The type that an arithmetic expression sees: a mask counts as a vec of zeros and ones."""
    return V if kind is M else kind


def negate(a: Type) -> Type | None:
    """The type of `-a`, None where it has no meaning."""
    return as_value(a) if as_value(a) in NUMERIC else None


def add(a: Type, b: Type) -> Type | None:
    """The type of `a + b` and `a - b`, None where it has no meaning."""
    pair = {as_value(a), as_value(b)}
    if not pair <= NUMERIC:
        return None
    if D in pair:
        return D
    return V if V in pair else S


def multiply(a: Type, b: Type) -> Type | None:
    """The type of `a * b`, None where it has no meaning: only a scalar may multiply a dist."""
    a, b = as_value(a), as_value(b)
    if not {a, b} <= NUMERIC:
        return None
    if S in (a, b):
        return b if a is S else a
    return V if a is b is V else None


def divide(a: Type, b: Type) -> Type | None:
    """The type of `a / b`, None where it has no meaning: nothing divides by a dist, and only a scalar divides
    one."""
    a, b = as_value(a), as_value(b)
    if b is S and a in NUMERIC:
        return a
    return V if b is V and a in (S, V) else None


def compare(a: Type, b: Type) -> Type | None:
    """The type of a comparison: a mask, of two equal types or with a scalar on one side."""
    a, b = as_value(a), as_value(b)
    if not {a, b} <= NUMERIC:
        return None
    return M if a is b or S in (a, b) else None

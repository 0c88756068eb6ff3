"""Trees with some of their parts replaced."""

from collections.abc import Callable

from grammar.tree import (
    Call,
    Comparison,
    Definition,
    Document,
    Expression,
    Keyword,
    Name,
    Negate,
    Number,
    Product,
    Quotient,
    Sum,
    Text,
)

Change = Callable[[Expression], Expression | None]
"""What an expression is replaced by; None keeps it, with its own parts looked at."""


def rewrite(node: Expression, change: Change) -> Expression:
    """The expression with each outermost part that `change` replaces replaced."""
    changed = change(node)
    if changed is not None:
        return changed
    match node:
        case Number() | Text() | Name():
            return node
        case Negate(operand):
            return Negate(rewrite(operand, change), node.span)
        case Sum(terms):
            return Sum(tuple(rewrite(term, change) for term in terms), node.span)
        case Product(left, right):
            return Product(rewrite(left, change), rewrite(right, change), node.span)
        case Quotient(left, right):
            return Quotient(rewrite(left, change), rewrite(right, change), node.span)
        case Comparison(left, sign, right):
            return Comparison(rewrite(left, change), sign, rewrite(right, change), node.span)
        case Call(function, arguments, keywords):
            return Call(
                function,
                tuple(rewrite(argument, change) for argument in arguments),
                tuple(Keyword(k.name, rewrite(k.value, change), k.span) for k in keywords),
                node.span,
            )


def rewritten(document: Document, change: Change) -> Document:
    """The formula with the parts of its definitions and of its result replaced."""
    definitions = tuple(
        Definition(one.name, rewrite(one.value, change), one.name_span, one.span)
        for one in document.definitions
    )
    return Document(definitions, rewrite(document.result, change), document.span)

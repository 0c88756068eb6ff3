"""The language of formulas: text to syntax tree and back, with errors that show the place.

Depends on lark and the standard library only.
"""

from grammar.errors import FormulaError, nearest
from grammar.parse import parse
from grammar.printer import to_text
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
    Span,
    Sum,
    Text,
    children,
)

__all__ = [
    "Call",
    "Comparison",
    "Definition",
    "Document",
    "Expression",
    "FormulaError",
    "Keyword",
    "Name",
    "Negate",
    "Number",
    "Product",
    "Quotient",
    "Span",
    "Sum",
    "Text",
    "children",
    "nearest",
    "parse",
    "to_text",
]

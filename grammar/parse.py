"""Text to syntax tree. The grammar itself is in `formula.lark`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedToken, v_args
from lark.lark import PostLex

from grammar import mistakes
from grammar.characters import unexpected_character
from grammar.errors import FormulaError
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

_ESCAPE = re.compile(r"""\\(u[0-9a-fA-F]{4}|[ntr"'\\])""")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}
DEEPEST = 200  # levels; the stages after this one walk trees with recursion

Part = Token | Expression | Keyword | Definition


def parse(text: str) -> Document:
    """The syntax tree of a formula.

    Raises:
        FormulaError: the text is not a formula, or is nested more than 200 levels deep.
        TypeError: `text` is not a str.
    """
    if not isinstance(text, str):
        raise TypeError(f"a formula is a str, not {type(text).__name__}")
    document = _read(text)
    for definition in document.definitions:
        _refuse_deep(definition.value)
    _refuse_deep(document.result)
    return document


def _read(text: str) -> Document:
    before: list[Token] = []
    opened: list[int] = []  # where in `before` the parentheses open that are not closed yet
    parser = _PARSER.parse_interactive(text)
    try:
        for token in parser.lexer_thread.lex(parser.parser_state):  # type: ignore[no-untyped-call]
            token.value = _place(text, token)
            parser.feed_token(token)
            if token.type == "LPAR":
                opened.append(len(before))
                if len(opened) > DEEPEST:
                    raise mistakes.too_deep(token.value, DEEPEST)
            elif token.type == "RPAR":
                opened.pop()
            before.append(token)
        document: Document = parser.feed_token(Token("$END", ""))
    except UnexpectedCharacters as error:
        assert error.pos_in_stream is not None
        raise unexpected_character(text, error.pos_in_stream) from None
    except UnexpectedToken as error:
        if error.token.type == "$END":
            raise mistakes.unexpected_end(text, before, opened) from None
        error.token.value = _place(text, error.token)
        raise mistakes.unexpected_token(error.token, before, opened) from None
    return document


def _place(text: str, token: Token) -> Span:
    assert token.start_pos is not None and token.end_pos is not None
    return Span(text, token.start_pos, token.end_pos)


def _refuse_deep(expression: Expression) -> None:
    waiting = [(expression, 1)]
    while waiting:
        node, level = waiting.pop()
        if level > DEEPEST:
            raise mistakes.too_deep(node.span, DEEPEST)
        waiting.extend((child, level + 1) for child in children(node))


class _Newlines(PostLex):
    """Drops the line ends that separate no statements: those before the first token, after an operator, `=`,
    `(` or `,`, and inside parentheses. (Those before an operator are left out by the lexer.)"""

    always_accept = ("_NEWLINE",)
    unfinished = frozenset({None, "COMPARE", "PLUS", "MINUS", "STAR", "SLASH", "EQUALS", "COMMA", "LPAR"})

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        depth = 0
        previous: str | None = None
        for token in stream:
            if token.type == "_NEWLINE" and (depth > 0 or previous in self.unfinished):
                continue
            depth += (token.type == "LPAR") - (token.type == "RPAR")
            previous = token.type
            yield token


def _unescaped(match: re.Match[str]) -> str:
    """What an escape stands for; a backslash before anything else stands for itself, as in `"\\d+"`."""
    code = match[1]
    return chr(int(code[1:], 16)) if code[0] == "u" else _ESCAPED.get(code, code)


def _where(part: Part) -> Span:
    span = part.value if isinstance(part, Token) else part.span
    assert isinstance(span, Span)
    return span


def _span(first: Part, last: Part) -> Span:
    return Span(_where(first).source, _where(first).start, _where(last).end)


@v_args(inline=True)
class _Builder(Transformer[Token, Document]):
    """One method a rule. A token's `value` is its span here, and the token itself, a str, its text."""

    def number(self, token: Token) -> Number:
        value = float(token)
        if value == float("inf"):
            raise FormulaError("this number is too large", token.value, "the largest is about 1.8e308")
        if value == 0 and token.lower().partition("e")[0].strip("0."):
            raise FormulaError("this number is too small to differ from 0", token.value, "write `0`")
        return Number(value, token.value)

    def text(self, token: Token) -> Text:
        return Text(_ESCAPE.sub(_unescaped, str(token)[1:-1]), token.value)

    def name(self, token: Token) -> Name:
        return Name(str(token), token.value)

    def group(self, left: Token, expression: Expression, right: Token) -> Expression:
        return replace(expression, span=_span(left, right))

    def negate(self, minus: Token, operand: Expression) -> Negate:
        return Negate(operand, _span(minus, operand))

    def product(self, left: Expression, right: Expression) -> Product:
        return Product(left, right, _span(left, right))

    def quotient(self, left: Expression, right: Expression) -> Quotient:
        return Quotient(left, right, _span(left, right))

    def total(self, first: Expression, *rest: Token | Expression) -> Sum:
        terms = [first]
        for sign, term in zip(rest[::2], rest[1::2], strict=True):
            assert isinstance(sign, Token) and not isinstance(term, Token)
            terms.append(Negate(term, _span(sign, term)) if sign.type == "MINUS" else term)
        return Sum(tuple(terms), _span(first, terms[-1]))

    def comparison(
        self, left: Expression, operator: Token, right: Expression, *rest: Token | Expression
    ) -> Comparison:
        if rest:
            second, last = rest[:2]
            assert isinstance(second, Token)
            raise mistakes.chained((_where(left), _where(right), _where(last)), (operator, second))
        return Comparison(left, str(operator), right, _span(left, right))

    def keyword(self, name: Token, value: Expression) -> Keyword:
        return Keyword(str(name), value, _span(name, value))

    def call(self, function: Token, left: Token, *rest: Expression | Keyword | Token) -> Call:
        *given, right = rest
        arguments = [part for part in given if not isinstance(part, Keyword | Token)]
        keywords = [part for part in given if isinstance(part, Keyword)]
        for earlier, later in pairwise(given):
            if isinstance(earlier, Keyword) and not isinstance(later, Keyword):
                raise mistakes.positional_after_named(_where(earlier), _where(later))
        seen: set[str] = set()
        for keyword in keywords:
            if keyword.name in seen:
                raise mistakes.repeated_argument(keyword.name, _where(keyword))
            seen.add(keyword.name)
        return Call(str(function), tuple(arguments), tuple(keywords), _span(function, right))

    def definition(self, name: Token, value: Expression) -> Definition:
        return Definition(str(name), value, name.value, _span(name, value))

    def start(self, *statements: Definition | Expression) -> Document:
        return _document(statements)


def _document(statements: Sequence[Definition | Expression]) -> Document:
    for statement, following in pairwise(statements):
        if not isinstance(statement, Definition):
            raise mistakes.early_result(_where(statement), following)
    definitions = [statement for statement in statements if isinstance(statement, Definition)]
    first: dict[str, Definition] = {}
    for definition in definitions:
        earlier = first.setdefault(definition.name, definition)
        if earlier is not definition:
            raise mistakes.duplicate(earlier, definition)
    result = statements[-1]
    if isinstance(result, Definition):
        raise mistakes.no_result(result)
    return Document(tuple(definitions), result, _span(statements[0], result))


_PARSER = Lark.open(
    "formula.lark",
    rel_to=__file__,
    parser="lalr",
    lexer="contextual",
    postlex=_Newlines(),
    transformer=_Builder(),
)

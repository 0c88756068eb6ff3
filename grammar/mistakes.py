"""What a person most likely meant with tokens in an order that the language does not have."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lark import Token

from grammar.errors import LINE_END, FormulaError, line_number
from grammar.tree import Definition, Expression, Negate, Span, Sum

_OPERAND_ENDS = frozenset({"NAME", "NUMBER", "TEXT", "RPAR"})
_OPERATORS = frozenset({"COMPARE", "PLUS", "MINUS", "STAR", "SLASH"})
_OPERAND = "a name, a number or `(`"
_UNQUOTED = 'names are written without quotes; a text is an argument of its own, as in `matching("[a-z]+")`'
_STRAY = "remove it, or add the `(` that it closes"
_MISSPELT = {"=<": "<=", "=>": ">=", "<>": "!=", "===": "==", "!==": "!=", "//": "/", "++": "+"}
_WORDS = {
    "and": "to ask for two things at once, multiply: `(a < b)*(c < d) > 0`",
    "if": "write `where(condition, a, b)`",
    "else": "write `where(condition, a, b)`",
}
_WORDS |= dict.fromkeys(("or", "not", "is", "in", "div", "mod"), "the operators are + - * / < <= > >= == !=")


def unexpected_token(token: Token, before: Sequence[Token], opened: Sequence[int]) -> FormulaError:
    """The error for a token that can't follow the ones before it.

    The `value` of each token is its span. `opened` holds where in `before` the open parentheses are.
    """
    run = _operator_run(token.value)
    if _text(run) == "**":
        return FormulaError("there are no powers", run, "write a product, `x*x` for the square of x")
    if _text(run) in _MISSPELT:
        return FormulaError(
            f"`{_text(run)}` is not an operator", run, f"did you mean `{_MISSPELT[_text(run)]}`?"
        )
    previous = before[-1] if before else None
    if previous is None or previous.type not in _OPERAND_ENDS:
        return _missing_operand(token, before)
    if token.type == "EQUALS":
        return _misplaced_equals(token, before, opened)
    if token.type == "RPAR":
        return FormulaError("this `)` closes nothing", token.value, _STRAY)
    if token.type == "COMMA":
        hint = "write an operator in its place"
        if previous.type == "NUMBER":
            hint = "a number is written with a point, as in `0.5`"
        return FormulaError("a comma can only separate the arguments of a call", token.value, hint)
    return _missing_operator(token, before, opened)


def unexpected_end(text: str, before: Sequence[Token], opened: Sequence[int]) -> FormulaError:
    """The error for a formula that stops too early."""
    if not before:
        holds = "holds only comments" if text.strip() else "is empty"
        return FormulaError(f"the formula {holds}", hint="write an expression, for example `base + 0.5*arm`")
    last = before[-1]
    if opened:
        hint = "add a `)` where the part in parentheses ends"
        return FormulaError("this `(` is never closed", before[opened[-1]].value, hint)
    if last.type == "EQUALS":
        return _no_value(before[-2], last)
    return FormulaError(f"the formula ends after `{last}`", last.value, f"{_OPERAND} is expected after it")


def too_deep(span: Span | None, levels: int) -> FormulaError:
    hint = "give an inner part a name, `part = ...`, and use the name"
    return FormulaError(f"the formula is nested more than {levels} levels deep here", span, hint)


def chained(operands: tuple[Span, Span, Span], operators: tuple[Token, Token]) -> FormulaError:
    """The error for `a < b < c`."""
    left, middle, right = map(_text, operands)
    pair = f"({left} {operators[0]} {middle})*({middle} {operators[1]} {right})"
    hint = f"to ask for both, multiply: `{pair}`" if _short(pair) else "compare two at a time, and multiply"
    return FormulaError("comparisons can't be chained", operators[1].value, hint)


def positional_after_named(named: Span, positional: Span) -> FormulaError:
    hint = "put arguments without a name first"
    name, _, value = _text(named).partition("=")
    comparison = f"{name.strip()} == {value.strip()}"
    if _short(_text(named)):
        hint += f"; if `{_text(named)}` is a comparison, write `{comparison}`"
    return FormulaError("an argument without a name comes after a named one", positional, hint)


def repeated_argument(name: str, span: Span) -> FormulaError:
    return FormulaError(f"the argument `{name}` is given twice", span, "remove one of the two")


def duplicate(first: Definition, second: Definition) -> FormulaError:
    assert first.name_span is not None
    message = (
        f"`{second.name}` is defined twice: first in line {line_number(first.name_span)}, and again here"
    )
    return FormulaError(message, second.name_span, "give one of the two another name")


def no_result(last: Definition) -> FormulaError:
    """The error for definitions without an expression to use them."""
    message = "there are definitions here, but no final expression"
    assert last.name_span is not None and last.value.span is not None
    between = Span(last.name_span.source, last.name_span.end, last.value.span.start)
    if LINE_END.search(_text(between)):
        line = line_number(last.value.span)
        hint = f"`{last.name} =` has no value in its own line and so took that of line {line}"
        return FormulaError(message, last.span, hint)
    for term in last.value.terms if isinstance(last.value, Sum) else ():
        if isinstance(term, Negate) and term.span is not None and _begins_line(term.span):
            line = line_number(term.span)
            hint = f"line {line} begins with an operator and so continues the line before it"
            if _short(_text(term.span)):
                hint += f"; for an expression of its own write `({_text(term.span)})`"
            return FormulaError(message, term.span, hint)
    hint = f"end with the expression that is wanted, for example `{last.name}`"
    return FormulaError(message, last.span, hint)


def early_result(span: Span, following: Definition | Expression) -> FormulaError:
    """The error for an expression that is a statement but not the last one."""
    if isinstance(following, Definition):
        hint = "move it to the end, or give it a name: `name = ...`"
        return FormulaError("an expression comes before a definition", span, hint)
    message = f"a second expression, after that of line {line_number(span)}: a formula has one, at its end"
    hint = "begin the line with an operator to continue, or give the first a name: `name = ...`"
    return FormulaError(message, following.span, hint)


def _missing_operand(token: Token, before: Sequence[Token]) -> FormulaError:
    previous = before[-1] if before else None
    if previous is None or previous.type == "_NEWLINE":
        return _nothing_on_the_left(token, "begins the line" if previous else "begins the formula")
    if previous.type == "EQUALS" and token.type in ("RPAR", "COMMA"):
        named = Span(token.value.source, before[-2].value.start, previous.value.end)
        return FormulaError(f"the argument `{before[-2]}` has no value", named, f"write `{before[-2]}=...`")
    both = Span(token.value.source, previous.value.start, token.value.end)
    if previous.type == "LPAR" and token.type == "RPAR":
        return FormulaError("there is nothing in these parentheses", both, f"{_OPERAND} is expected in them")
    if token.type in ("COMMA", "RPAR") and previous.type in ("COMMA", "LPAR"):
        place = "before this comma" if token.type == "COMMA" else "after this comma"
        comma = token if token.type == "COMMA" else previous
        return FormulaError(f"an argument is missing {place}", comma.value, "add it, or remove the comma")
    if token.type == "PLUS":
        hint = "leave this `+` out: only a minus sign may stand in front of a value"
        return FormulaError(f"`+` can't follow `{previous}`", token.value, hint)
    return FormulaError(f"`{token}` can't follow `{previous}`", token.value, f"{_OPERAND} is expected here")


def _nothing_on_the_left(token: Token, place: str) -> FormulaError:
    if token.type == "PLUS":
        hint = "leave it out: only a minus sign may stand in front of a value"
    elif token.type == "EQUALS":
        hint = "a definition is written `name = expression`, with the name and `=` in one line"
    elif token.type == "RPAR":
        hint = _STRAY
    else:
        hint = f"{_OPERAND} is expected before it"
    return FormulaError(f"`{token}` {place}, with nothing to its left", token.value, hint)


def _misplaced_equals(token: Token, before: Sequence[Token], opened: Sequence[int]) -> FormulaError:
    if opened:
        message = "`=` can't stand in parentheses"
        if _in_call(before, opened):
            message = "only a single name can stand left of `=` in a call"
        return FormulaError(message, token.value, "to compare, write `==`")
    ends = [index for index, earlier in enumerate(before) if earlier.type == "_NEWLINE"]
    statement = before[ends[-1] + 1 if ends else 0 :]
    equals = next((index for index, earlier in enumerate(statement) if earlier.type == "EQUALS"), None)
    if equals is not None:
        between = Span(token.value.source, statement[equals].value.end, before[-1].value.start)
        if LINE_END.search(_text(between)):
            return _no_value(statement[equals - 1], statement[equals])
        return FormulaError("a second `=` in one definition", token.value, "to compare, write `==`")
    left = Span(token.value.source, statement[0].value.start, before[-1].value.end)
    hint = "a definition is written `name = expression`; to compare, write `==`"
    if len(statement) > 1 and statement[0].type == "NAME" and statement[1].type == "LPAR":
        hint = "there are no functions of one's own; to compare, write `==`"
    return FormulaError("only a single name can stand left of `=`", left, hint)


def _no_value(name: Token, equals: Token) -> FormulaError:
    span = Span(name.value.source, name.value.start, equals.value.end)
    hint = f"write it after `=`: `{name} = ...`"
    return FormulaError(f"the definition of `{name}` has no value", span, hint)


def _missing_operator(token: Token, before: Sequence[Token], opened: Sequence[int]) -> FormulaError:
    previous = before[-1]
    for word in (previous, token):
        if word in _WORDS:
            return FormulaError(f"`{word}` is not an operator", word.value, _WORDS[word])
    if previous.type == "NUMBER" and previous.value.end == token.value.start and token.type != "LPAR":
        whole = Span(token.value.source, previous.value.start, token.value.end)
        if token.type == "NUMBER":
            return FormulaError(f"`{_text(whole)}` is not a number", whole, "a number has one decimal point")
        if re.fullmatch(r"_[0-9_]+", token):
            plain = _text(whole).replace("_", "")
            return FormulaError(f"`{_text(whole)}` is not a number", whole, f"write `{plain}`")
        if token in ("e", "E"):
            return FormulaError(f"`{_text(whole)}` is not a number", whole, "an exponent has digits: `1e-3`")
    if "TEXT" in (token.type, previous.type):
        text = token if token.type == "TEXT" else previous
        return FormulaError("an operator is missing next to this text", text.value, _UNQUOTED)
    in_call = _in_call(before, opened)
    left = "(...)" if previous.type == "RPAR" else str(previous)
    right = "(...)" if token.type == "LPAR" else str(token)
    what = "an operator or a comma" if in_call else "an operator"
    message = f"{what} is missing between `{previous}` and `{token}`"
    between = Span(token.value.source, previous.value.end, token.value.start)
    if opened and LINE_END.search(_text(between)):
        line = line_number(before[opened[-1]].value)
        hint = f"or is the `(` of line {line} not closed where it should be?"
        return FormulaError(message, token.value, hint)
    choices = [f"{left}*{right}"]
    if in_call:
        choices.append(f"{left}, {right}")
    elif previous.type != "NUMBER" or token.type == "NUMBER":
        choices.append(f"{left} + {right}")
    return FormulaError(message, token.value, f"did you mean {' or '.join(f'`{each}`' for each in choices)}?")


def _in_call(before: Sequence[Token], opened: Sequence[int]) -> bool:
    """Whether the innermost open parenthesis is that of a call."""
    return bool(opened) and opened[-1] > 0 and before[opened[-1] - 1].type == "NAME"


def _operator_run(span: Span) -> Span:
    """The operator characters that stand together with the token at `span`, if it is one of them."""
    start, end = span.start, span.end
    if span.source[start] not in "=<>!*/+":
        return span
    while start > 0 and span.source[start - 1] in "=<>!*/+":
        start -= 1
    while end < len(span.source) and span.source[end] in "=<>!*/+":
        end += 1
    return Span(span.source, start, end)


def _text(span: Span) -> str:
    return span.source[span.start : span.end]


def _short(text: str) -> bool:
    return len(text) <= 60 and text.isprintable()


def _begins_line(span: Span) -> bool:
    before = span.source[: span.start].rstrip(" \t\f")
    return before.endswith(("\n", "\r"))

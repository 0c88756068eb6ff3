"""Characters that the language does not have: what each was meant as, and how to write that in ASCII."""

from __future__ import annotations

import re
import unicodedata

from grammar.errors import LINE_END, FormulaError
from grammar.tree import Span

_LOOKALIKES = {
    "-": "−–—‐‑‒―﹣",
    "*": "·×⋅∙•∗✕✖⁎",
    "/": "÷∕⁄",
    "<=": "≤⩽≦",
    ">=": "≥⩾≧",
    "!=": "≠",
    "==": "≡",
    ",": "、",
    " ": "\N{NO-BREAK SPACE}\N{EN SPACE}\N{EM SPACE}\N{THIN SPACE}\N{HAIR SPACE}\N{NARROW NO-BREAK SPACE}"
    "\N{FIGURE SPACE}\N{PUNCTUATION SPACE}\N{IDEOGRAPHIC SPACE}\v",
    "": "\N{ZERO WIDTH SPACE}\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NO-BREAK SPACE}"
    "\N{SOFT HYPHEN}\N{LEFT-TO-RIGHT MARK}\N{RIGHT-TO-LEFT MARK}\N{WORD JOINER}",
}
_ASCII_FORM = {character: ascii for ascii, characters in _LOOKALIKES.items() for character in characters}
_QUOTES = "\"'`“”„‟‘’‚‛«»‹›´"
_HINTS = {
    "^": "there are no powers; write a product, `x*x` for the square of x",
    "%": "write 20% as `0.2`",
    ";": "begin a new line for each statement",
    ":": "a definition is written `name = expression`",
    "\\": "to go on in the next line, break this one after an operator or inside parentheses",
    "&": "to ask for two things at once, multiply: `(a < b)*(c < d) > 0`",
    "!": "`not equal` is written `!=`",
    ".": "names have no dots in them, and a decimal point needs a digit next to it",
    **dict.fromkeys("[]{}", "only round parentheses group: `( )`"),
}
_NAMES = "names are made of the letters a-z and A-Z, digits and `_`"
_WORD = re.compile(r"\w*+")
_SIGN = re.compile(r"[-+*/<>=(),# ]?|[<>=!]=")
_GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER (?:FINAL )?(\w+)")


def unexpected_character(text: str, position: int) -> FormulaError:
    """The error for the character at `position`, with which no token of the language begins."""
    character = text[position]
    span = Span(text, position, position + 1)
    message = f"{_described(character)} is not part of the language"
    if character in _QUOTES:
        return FormulaError(message, span, _rewritten("names are written without quotes", text, position))
    if character in _HINTS:
        return FormulaError(message, span, _HINTS[character])
    if unicodedata.decomposition(character).startswith("<super>"):
        return FormulaError(message, span, _HINTS["^"])
    if not character.isascii() and unicodedata.category(character)[0] in "LMN":
        return _foreign_name(text, position)
    ascii_form = _ascii(character)
    if _SIGN.fullmatch(ascii_form):
        advice = {"": "remove it", " ": "put a plain space there"}.get(ascii_form, f"write `{ascii_form}`")
        return FormulaError(f"{message}: {advice}", span, _rewritten("in ASCII", text, position))
    return FormulaError(message, span, "remove it" if unicodedata.category(character)[0] in "CZ" else _NAMES)


def _foreign_name(text: str, position: int) -> FormulaError:
    start = position
    while start > 0 and (text[start - 1].isalnum() or text[start - 1] == "_"):
        start -= 1
    match = _WORD.match(text, position + 1)
    assert match is not None
    word = text[start : match.end()]
    plain = _in_ascii(word)
    hint = _NAMES
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*|[0-9/]+", plain):
        hint = f"names and numbers are written in ASCII: `{plain}`"
    return FormulaError(
        f"{_described(text[position])} is not an ASCII letter or digit", Span(text, start, match.end()), hint
    )


def _described(character: str) -> str:
    """The character itself where one can see it, and its Unicode name where it is not on every keyboard."""
    if character.isascii() and character.isprintable():
        return f"`{character}`"
    code = f"U+{ord(character):04X}"
    name = unicodedata.name(character, "").lower()
    full = f"{code} {name}".strip()
    return f"`{character}` ({full})" if character.isprintable() else f"the invisible character {full}"


def _rewritten(advice: str, text: str, position: int) -> str:
    """The advice, and the line that `position` is in as it was probably meant, if it is all ASCII then."""
    starts = [match.end() for match in LINE_END.finditer(text, 0, position)]
    start = starts[-1] if starts else 0
    closing = LINE_END.search(text, position)
    line = _in_ascii(text[start : closing.start() if closing else len(text)]).strip()
    for quote in _QUOTES:
        line = line.replace(quote, "")
    readable = line and len(line) <= 80 and line.isascii() and line.isprintable()
    return f"{advice}: `{line}`" if readable else advice


def _in_ascii(text: str) -> str:
    """The text with what has an ASCII form in that form: `−` as `-`, `α` as `alpha`, `é` as `e`."""
    return "".join(map(_ascii, text))


def _ascii(character: str) -> str:
    if character in _ASCII_FORM:
        return _ASCII_FORM[character]
    if character.isascii():
        return character
    plain = ""
    for part in unicodedata.normalize("NFKD", character):
        greek = _GREEK.fullmatch(unicodedata.name(part, ""))
        if part.isascii():
            plain += part
        elif part in _ASCII_FORM:
            plain += _ASCII_FORM[part]
        elif greek:
            letter = greek[2].replace("LAMDA", "LAMBDA")  # Unicode's name of it is the rarer spelling
            plain += letter.lower() if greek[1] == "SMALL" else letter.capitalize()
        elif not unicodedata.combining(part):
            return character
    return plain

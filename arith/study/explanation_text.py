"""An explanation for the terminal: the text in colours, and the tokens where formula and base differ most."""

from collections.abc import Iterator, Mapping, Sequence
from unicodedata import category

from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from arith.errors import OptionError
from arith.runtime.explaining.explanation import Candidate, ExplainedToken, Explanation
from arith.runtime.explaining.token_text import TokenKind
from grammar.errors import nearest

KL = "kl"
MOST = 10  # tokens in the table
WARM = ("#feedde", "#fdd0a2", "#fdae6b", "#fd8d3c", "#e6550d")
COOL = ("#deebf7", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6")
TYPICAL = 0.98  # of the values are within the scale; the few beyond have its last colour
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
SIGNS = {" ": "·", "\n": "⏎", "\r": "␍", "\t": "⇥"}


def check_colour(by: str, terms: Sequence[str]) -> None:
    """Raises `OptionError` for what text can't be coloured by: it is `kl`, or a term of the formula."""
    known = (KL, *terms)
    if by not in known:
        close = nearest(by, known)
        hint = f"did you mean `{close}`?" if close else f"it is one of {', '.join(known)}"
        raise OptionError(f"the formula has no term `{by}` to colour the text by", hint)


def rendered(explanation: Explanation, by: str) -> RenderableType:
    """The explanation as rich shows it. `by` is what colours the text: `kl`, or the name of a term for its
    contribution."""
    values = [token.kl if by == KL else token.chosen.contributions[by] for token in explanation.tokens]
    scale = Scale(values)
    return Group(
        Text(explanation.formula, "bold"),
        Text(_summary(explanation)),
        Text(""),
        coloured(explanation, values, scale),
        Text(""),
        scale.legend(f"KL(formula‖{explanation.base})" if by == KL else f"contribution of {by}"),
        Text.assemble(
            ("underlined", "underline"), f": {explanation.base} alone would have chosen another token"
        ),
        Text(""),
        Text(f"where the formula is farthest from {explanation.base}: log p, and (contribution)", "italic"),
        most_different(explanation),
    )


class Scale:
    """Colours for values around 0: five for those above and five for those below, none for those near it."""

    def __init__(self, values: Sequence[float]):
        sizes = sorted(abs(value) for value in values if abs(value) < float("inf"))
        typical = sizes[int(TYPICAL * (len(sizes) - 1))] if sizes else 0.0
        self.limit = typical if typical >= 1e-4 else 1.0
        self.low, self.high = min(values, default=0.0) < 0, max(values, default=0.0) > 0

    def style(self, value: float) -> Style:
        """How a token with this value looks."""
        share = min(abs(value) / self.limit, 1.0)
        step = round(share * len(WARM))
        if step == 0:
            return Style()
        return Style(color="#000000", bgcolor=(COOL if value < 0 else WARM)[step - 1])

    def legend(self, name: str) -> Text:
        """What the colours stand for, in nats."""
        legend = Text(f"{name}, nats: ")
        count = len(WARM)
        steps = [-step for step in range(count, 0, -1)] if self.low else []
        for step in (*steps, 0, *(range(1, count + 1) if self.high else ())):
            value = self.limit * step / count
            digits = 2 if self.limit >= 0.1 else 4
            legend.append(f" {value:.{digits}f} ", self.style(value))
        return legend


def coloured(explanation: Explanation, values: Sequence[float], scale: Scale) -> Text:
    """The text with each token in its colour; underlined where the base would have chosen another one."""
    text = Text()
    for token, value in zip(explanation.tokens, values, strict=True):
        style = scale.style(value) + Style(underline=token.differs, italic=token.shown.kind != "text")
        text.append(_in_text(token), style)
    return text


def most_different(explanation: Explanation) -> Table:
    """The tokens with the largest KL: log-probabilities of the operands and, in brackets, contributions."""
    table = Table("place", "token", f"{explanation.base} alone")
    columns = _columns(explanation)
    for name in ("KL", "formula", *columns):
        table.add_column(Text(name), justify="right")
    order = sorted(range(len(explanation.tokens)), key=lambda place: (-explanation.tokens[place].kl, place))
    for place in order[:MOST]:
        token = explanation.tokens[place]
        chosen, other = token.chosen, token.base_choice
        table.add_row(
            str(place + 1),
            Text(visible(token.shown.text, token.shown.kind)),
            Text(visible(other.text, other.kind)),
            f"{token.kl:.2f}",
            f"{chosen.log_prob:.2f}",
            *(_cell(chosen, operand, term) for operand, term in columns.values()),
        )
    return table


def visible(text: str, kind: TokenKind) -> str:
    """A token on one line, with blanks that can be seen."""
    return "".join(SIGNS.get(one, _harmless(one)) for one in text) if kind == "text" else text


def _in_text(token: ExplainedToken) -> str:
    """A token among others: blanks are what they are."""
    text = token.shown.text
    if token.shown.kind != "text":
        return text
    return "".join("⏎\n" if one == "\n" else one if one == "\t" else _harmless(one) for one in text)


def _harmless(character: str) -> str:
    """The character; one that a terminal would obey, or that turns the direction of others, by its number."""
    obeyed = category(character) == "Cc" or character in TURNING
    return f"‹{ord(character):02X}›" if obeyed else character


def _columns(explanation: Explanation) -> Mapping[str, tuple[str | None, str | None]]:
    """By its heading what each column is of: an operand that ran, the term that it is, or any other term."""
    term_of = {operand: term for term, operand in explanation.terms.items() if operand is not None}
    ran = [name for name in explanation.operands if name not in explanation.not_run]
    others = {term: (None, term) for term, operand in explanation.terms.items() if operand is None}
    return {**{name: (name, term_of.get(name)) for name in ran}, **others}


def _cell(chosen: Candidate, operand: str | None, term: str | None) -> str:
    parts = [] if operand is None else [f"{chosen.log_probs[operand]:.2f}"]
    return " ".join([*parts, *([] if term is None else [f"({chosen.contributions[term]:+.2f})"])])


def _summary(explanation: Explanation) -> str:
    return ", ".join(_said(explanation))


def _said(explanation: Explanation) -> Iterator[str]:
    yield from (f"{name} = {value:g}" for name, value in explanation.params.items())
    count = len(explanation.tokens)
    yield f"{count} token{'' if count == 1 else 's'}"
    yield f"log p {explanation.log_prob:.1f}"
    yield f"KL to {explanation.base} {explanation.mean_kl:.2f} nats a token"
    if explanation.not_run:
        yield f"not run, its weight being 0: {', '.join(explanation.not_run)}"
    if not explanation.terms:
        yield "no contributions: the formula is no sum"

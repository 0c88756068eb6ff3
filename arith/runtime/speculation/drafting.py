"""What a call drafts with: `speculate={"draft": "base", "tokens": 4}` and its other forms, made plain."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

from arith.errors import OptionError
from arith.language import Formula
from arith.language.names import supersedes, superseding
from arith.operands.llm import LLM
from arith.runtime.options import PROMPT_LOOKUP, Speculate
from grammar.errors import FormulaError
from grammar.tree import Call, Expression, Name, Number

KEYS = ("draft", "lazy", "tokens")
ASKED = ("layer", "log_likelihood")  # operators that name an operand in order to ask it
UNIFORM = Call("uniform", ())


@dataclass(frozen=True, eq=False)
class Drafting:
    """`formula` drafts (None: the row's own text is looked up), `tokens` at a time (None: as many as pay)."""

    formula: Formula | None
    tokens: int | None

    @property
    def written(self) -> Speculate:
        """As a specification has it."""
        draft = PROMPT_LOOKUP if self.formula is None else str(self.formula)
        return Speculate(draft=draft, tokens=self.tokens or "auto")


def drafting_of(given: Any, formula: Formula, declared: Mapping[str, Any]) -> Drafting | None:
    """The draft for a formula; `declared` are operands and parameter values that a draft's text may name.

    given: None (`supersede` in the formula says what drafts, or nothing does), False (nothing does), a draft,
    or a mapping with `draft` or `lazy` (or neither, where something is superseded), and `tokens`. A draft is
    the text of a formula, `"prompt_lookup"`, an operand or a `Formula`; `lazy` names operands of the formula
    without which it drafts for itself.

    Raises `OptionError` or `FormulaError` for anything else, and for a draft in which a name of the formula
    means another thing.
    """
    found = _drafting_of(given, formula, declared)
    if found is not None and found.formula is not None:
        _refuse_other_meanings(found.formula, formula)
    return found


@contextmanager
def told_of_draft() -> Iterator[None]:
    """Errors of a formula are told as those of a draft."""
    try:
        yield
    except FormulaError as error:
        raise FormulaError(f"speculate: draft: {error.message}", error.span, error.hint) from None


def _drafting_of(given: Any, formula: Formula, declared: Mapping[str, Any]) -> Drafting | None:
    if given is False:
        return None
    superseded = _superseded(formula)
    if given is None:
        return None if superseded is None else Drafting(superseded, None)
    if given is True:
        raise OptionError("speculate is True: it says what drafts", 'as in {"draft": "base", "tokens": 4}')
    if not isinstance(given, Mapping):
        given = {"draft": given}
    for key in given:
        if key not in KEYS:
            raise OptionError(f"speculate: unknown key `{key}`", f"its keys are {', '.join(KEYS)}")
    if superseded is not None and set(given) <= {"tokens"}:
        return Drafting(superseded, _tokens(given.get("tokens", "auto")))
    if ("draft" in given) == bool(given.get("lazy")):
        raise OptionError("speculate has either `draft` or `lazy`", 'as in {"draft": "base", "tokens": 4}')
    tokens = _tokens(given.get("tokens", "auto"))
    if given.get("lazy"):
        return Drafting(_without(formula, given["lazy"]), tokens)
    draft = given["draft"]
    if draft == PROMPT_LOOKUP:
        return Drafting(None, tokens)
    return Drafting(_formula(draft, declared), tokens)


def _tokens(tokens: Any) -> int | None:
    if tokens == "auto":
        return None
    if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1:
        raise OptionError(
            f"speculate: `tokens` is {tokens!r}: it has to be a whole number of at least 1, or auto"
        )
    return tokens


def _formula(draft: Any, declared: Mapping[str, Any]) -> Formula:
    if isinstance(draft, LLM):
        own = (name for name, operand in declared.items() if operand == draft)
        free = (name for n in count(1) if (name := f"draft{n}") not in declared)
        name = next(chain(own, free))
        return Formula(name, **{name: draft})
    if not isinstance(draft, str):
        try:
            return Formula.of(draft)
        except TypeError as error:
            raise OptionError(f"speculate: draft: {error}") from None
    with told_of_draft():
        needed = {*Formula(draft).operands, *Formula(draft).parameters}
        formula = Formula(draft, **{name: value for name, value in declared.items() if name in needed})
        formula.bound_operands()
    return formula


def _refuse_other_meanings(draft: Formula, formula: Formula) -> None:
    known = {*formula.operands, *formula.parameters}
    for name, value in draft.bindings.items():
        if name in known and formula.bindings.get(name) != value:
            said = f"speculate: draft: `{name}` is bound to another thing than in the formula"
            raise OptionError(said, "give it another name in one of them, or bind it in the formula alone")


def _superseded(formula: Formula) -> Formula | None:
    """The formula in which the small one stands for what supersedes it; None where nothing does."""

    def small(node: Expression) -> Expression | None:
        if isinstance(node, Call) and node.function == "supersede":
            return superseding(node)[0]
        return None

    if not supersedes(formula.document):
        return None
    draft = formula.rewritten(small)
    with told_of_draft():
        draft.bound_operands()
    return draft


def _without(formula: Formula, names: Any) -> Formula:
    """The formula in which the operands say nothing."""
    if not isinstance(names, str | Sequence):
        raise OptionError(f"speculate: lazy is {names!r}: it has to be a list of operands")
    lazy = (names,) if isinstance(names, str) else tuple(names)
    for name in lazy:
        if name not in formula.program.operands:
            listed = ", ".join(f"`{one}`" for one in formula.program.operands)
            raise OptionError(f"speculate: lazy: the formula has no operand `{name}`", f"it has {listed}")
    if set(lazy) == set(formula.program.operands):
        raise OptionError(
            "speculate: lazy: these are all operands of the formula", "one that is not lazy has to draft"
        )

    def silent(node: Expression) -> Expression | None:
        asked = node.arguments[0] if isinstance(node, Call) and node.function in ASKED else node
        if not isinstance(asked, Name) or asked.id not in lazy:
            return None
        return Number(0) if isinstance(node, Call) and node.function == "log_likelihood" else UNIFORM

    return formula.rewritten(silent)

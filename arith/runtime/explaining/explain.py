"""Explaining a text: one that is given, or one that the formula writes first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

from arith.errors import OptionError
from arith.language import Formula
from arith.language.terms import terms_of
from arith.operands.llm import LLM
from arith.runtime.explaining.explanation import Candidate, ExplainedToken, Explanation
from arith.runtime.explaining.places import Asked, Place, places_of
from arith.runtime.explaining.token_text import TokenText, texts_in_place, token_texts_of
from arith.runtime.row import Row
from arith.runtime.rows import as_prompts
from grammar.errors import nearest

if TYPE_CHECKING:
    from arith.runtime.engine import Engine


def explain(
    engine: "Engine",
    prompt: Any,
    text: Any,
    *,
    params: Mapping[str, float] | None,
    base: str | None,
    top: int,
    sampling: Mapping[str, Any],
) -> Explanation:
    """See `Engine.explain`."""
    models = engine.runner.models
    base = chosen_base(engine.formula, base)
    check_top(top, models.fusion.vocabulary)
    prompts = as_prompts(prompt)
    if len(prompts) != 1:
        raise OptionError(f"one prompt is explained at a time, not {len(prompts)}")
    tokens = _tokens(engine, prompts, text, params, sampling)
    rows = engine.runner.rows.to_score(prompts, [tokens], params, end=False, behind=False)
    row = rows[0]
    if not row.tokens:
        raise OptionError("the text is empty: there is no token to explain")
    row.needed = row.needed | {models.operands[base]}
    terms = terms_of(engine.formula.program)
    measure = partial(places_of, models.fusion, Asked(base, terms, top))
    [places] = engine.runner.teacher_forced(rows, measure, behind=False)
    said = engine.tokenizer.decode(row.tokens, skip_special_tokens=True)
    assert isinstance(said, str)
    return Explanation(
        formula=str(engine.formula),
        params=dict(row.values),
        prompt=row.prompt,
        text=said,
        base=base,
        operands={name: _keys(operand) for name, operand in models.operands.items()},
        not_run=tuple(name for name in models.operands if not row.ran(name)),
        terms={term.name: term.operand for term in terms},
        tokens=tuple(_explained(engine, row, places)),
    )


def chosen_base(formula: Formula, base: str | None) -> str:
    """The language model that the formula is compared with: the one named, or the first. Raises
    `OptionError`."""
    known = formula.program.operands
    if base is None:
        return known[0]
    if base not in known:
        close = nearest(str(base), known)
        hint = f"did you mean `{close}`?" if close else f"its operands: {', '.join(known)}"
        raise OptionError(f"base: the formula has no operand `{base}`", hint)
    return base


def check_top(top: int, vocabulary: int) -> None:
    """Raises `OptionError` for what is no number of alternatives."""
    whole = isinstance(top, int) and not isinstance(top, bool)
    if not whole or not 1 <= top <= vocabulary:
        raise OptionError(f"top is {top!r}: it has to be a whole number from 1 to {vocabulary}")


def _tokens(
    engine: "Engine",
    prompts: Sequence[Any],
    text: Any,
    params: Mapping[str, float] | None,
    sampling: Mapping[str, Any],
) -> Any:
    """The text that is given, or the tokens that the formula writes. Raises `OptionError`."""
    if text is not None:
        if sampling:
            raise OptionError(f"the text is given, so that `{next(iter(sampling))}` has nothing to act on")
        return text
    if sampling.get("num_return_sequences", 1) != 1:
        raise OptionError("one text is explained at a time", "leave `num_return_sequences` out")
    options = {**sampling, "num_return_sequences": 1}
    [result] = engine.generate(prompts, params=params, **options)
    return result.token_ids


def _explained(engine: "Engine", row: Row, places: Sequence[Place]) -> Iterator[ExplainedToken]:
    alone = token_texts_of(engine.tokenizer, (token for place in places for token in place.token_ids))
    shown = texts_in_place(engine.tokenizer, row.tokens, alone)
    for place, text in zip(places, shown, strict=True):
        chosen, base_choice, *alternatives = _candidates(place, alone)
        yield ExplainedToken(
            shown=text,
            chosen=chosen,
            base_choice=base_choice,
            rank=place.rank,
            kl=place.kl,
            entropy=place.entropy,
            weights=place.weights,
            log_normalizer=place.log_normalizer,
            alternatives=tuple(alternatives),
        )


def _candidates(place: Place, texts: Mapping[int, TokenText]) -> Iterator[Candidate]:
    for number, token in enumerate(place.token_ids):
        yield Candidate(
            token_id=token,
            text=texts[token].text,
            kind=texts[token].kind,
            log_prob=place.log_probs[number],
            log_probs={name: values[number] for name, values in place.operand_log_probs.items()},
            contributions={name: values[number] for name, values in place.contributions.items()},
        )


def _keys(operand: LLM) -> dict[str, str]:
    """The keys of an operand that were given."""
    given = {field.name: (getattr(operand, field.name), field.default) for field in fields(operand)}
    return {name: str(value) for name, (value, default) in given.items() if value not in (None, default)}

"""Any text at all is a formula that compiles, or a FormulaError; and it is found out at once.

The short form runs with the other tests. The long form, a million texts, takes about ten minutes:

    python -m pytest tests/language/test_formula_fuzz.py -m slow
"""

import random
import time

import pytest

from arith.language import Formula
from arith.language.operators import REGISTRY
from grammar.errors import FormulaError

LONGEST = 2.0  # seconds of this thread's own time for one text
EXAMPLES = [
    *(operator.example for operator in REGISTRY.values()),
    "base + alpha*arm",
    "d = top_p(base, p=0.9)\nwithin(d - 0.5*amateur, d)",
    "where(entropy(base) > limit, base - amateur, base)",
    "average(max(child, 2*adult) - 0.6*adult)",
    "base + 1/(1 + exp(-k*(entropy(base) - m)))*arm",
    "(a - b)*alpha + (x < y)*c",
]
NAMES = ["a", "b", "base", "arm", "x", "alpha", "t", "true", "prompt_length", *sorted(REGISTRY)]
ATOMS = [*NAMES, "0", "1", "2.5", "1e-3", '"a b"', '"["', "a", "b", "x"]
SIGNS = ["+", "-", "*", "/", "<", "<=", "==", "!=", ","]
BITS = [*SIGNS, "(", ")", "=", "\n", " ", "-", '"', "#", "\N{MINUS SIGN}", ".5", "k=", "x = ", "true"]


def composed(chance: random.Random, depth: int) -> str:
    """A text that follows the grammar, of whatever types."""
    kind = chance.random()
    if depth == 0 or kind < 0.25:
        return chance.choice(ATOMS)
    if kind < 0.55:
        sides = (composed(chance, depth - 1), chance.choice(SIGNS[:-1]), composed(chance, depth - 1))
        return f"({' '.join(sides)})"
    if kind < 0.6:
        return f"-({composed(chance, depth - 1)})"
    operator = REGISTRY[chance.choice(sorted(REGISTRY))]
    given = [composed(chance, depth - 1) for _ in operator.arguments]
    names = [argument.name for argument in operator.arguments]
    if chance.random() < 0.2:
        chance.shuffle(names)
    named = chance.random() < 0.3
    return (
        f"{operator.name}({', '.join(f'{n}={g}' if named else g for n, g in zip(names, given, strict=True))})"
    )


def mutated(chance: random.Random) -> str:
    text = chance.choice(EXAMPLES)
    for _ in range(chance.randint(1, 3)):
        start = chance.randint(0, len(text))
        end = chance.randint(start, min(len(text), start + 8))
        text = text[:start] + chance.choice(["", *BITS, *ATOMS]) + text[end:]
    return text


def compiles(text: str) -> bool:
    """Whether the text is a formula; a failure if it is neither that nor refused with a proper error."""
    start = time.thread_time()
    try:
        formula = Formula(text)
        assert str(Formula(str(formula)).program) == str(formula.program), text
        return True
    except FormulaError as error:
        assert error.message, text
        if error.span is not None:
            assert 0 <= error.span.start < error.span.end <= len(error.span.source), text
        return False
    finally:
        assert time.thread_time() - start < LONGEST, f"{text!r} took too long"


@pytest.mark.parametrize("count", [4_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_random_formulas_compile_or_are_refused(count: int) -> None:
    chance = random.Random(count)
    made = (mutated(chance) if number % 2 else composed(chance, 4) for number in range(count))
    formulas = sum(map(compiles, made))
    assert count // 100 < formulas < count // 2, "both outcomes have to be common for this to test anything"


def test_a_text_that_grows_takes_no_more_than_its_share() -> None:
    for text in (
        "\n".join(
            ["d0 = base + arm", *(f"d{n} = max(d{n - 1}, d{n - 1} + arm)" for n in range(1, 200)), "d199"]
        ),
        " + ".join(f"{n}*a{n}" for n in range(800)),
        "where(" * 60 + "a" + " > b, a, b)" * 60,
    ):
        compiles(text)

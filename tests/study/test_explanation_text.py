"""Explanations in the terminal."""

import io

import pytest
from rich.color import Color
from rich.console import Console

from arith import Engine, Formula, OptionError
from arith.runtime.explaining.explanation import Explanation
from arith.study.explanation_text import COOL, WARM, Scale, check_colour, coloured, rendered, visible
from tests.runtime.reference import raw

TEXT = "in the\nrain\té\x1b[31m"


@pytest.fixture(scope="module")
def explanation(tiny_llama: str, lora_a: str) -> Explanation:
    formula = Formula("base + w*arm", base=raw(tiny_llama), arm=raw(tiny_llama, lora_a), w=0.5)
    return Engine(formula).explain("hi", TEXT, top=3)


def shown(explanation: Explanation, by: str = "kl", width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(rendered(explanation, by))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_text_and_the_numbers_are_there(explanation: Explanation) -> None:
    text = shown(explanation)
    assert "base + w*arm" in text and "w = 0.5" in text and "in the⏎\nrain" in text
    farthest = max(explanation.tokens, key=lambda token: token.kl)
    row = next(line for line in text.splitlines() if f"{farthest.kl:.2f}" in line and "│" in line)
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    chosen = farthest.chosen
    assert cells[0] == str(explanation.tokens.index(farthest) + 1)
    assert cells[4] == f"{chosen.log_prob:.2f}"
    assert cells[6] == f"{chosen.log_probs['arm']:.2f} ({chosen.contributions['arm']:+.2f})"
    assert chosen.contributions["arm"] == pytest.approx(0.5 * chosen.log_probs["arm"], abs=1e-5)


def test_no_character_of_a_text_commands_the_terminal(explanation: Explanation) -> None:
    text = shown(explanation)
    assert "\x1b" not in text and "‹1B›[31m" in text
    assert visible(" a\n\t\x07\x9b", "text") == "·a⏎⇥‹07›‹9B›"
    assert visible("\u202eabc\u2069", "text") == "‹202E›abc‹2069›"  # would turn what stands behind it
    assert visible("‹C3 A9›", "bytes") == "‹C3 A9›"


def test_colours_grow_with_the_value_and_tell_its_sign() -> None:
    scale = Scale([-2.0, 0.0, 1.0, 2.0])
    backgrounds = [scale.style(value).bgcolor for value in (0.0, 0.1, 0.4, 1.0, 2.0, 9.0, -0.4, -2.0)]
    expected = [None, None, WARM[0], WARM[1], WARM[4], WARM[4], COOL[0], COOL[4]]
    assert backgrounds == [None if one is None else Color.parse(one) for one in expected]
    assert all(Scale([0.0, 0.0]).style(0.0).bgcolor is None for _ in range(2))
    assert Scale([1.0, float("inf")]).style(float("inf")).bgcolor == Color.parse(WARM[4])


def test_the_base_own_choices_are_not_underlined(explanation: Explanation) -> None:
    scale = Scale([0.0])
    text = coloured(explanation, [0.0] * len(explanation.tokens), scale)
    underlined = [span.style.underline for span in text.spans if not isinstance(span.style, str)]
    assert underlined == [token.differs for token in explanation.tokens]
    assert True in underlined


def test_a_contribution_can_colour_the_text(explanation: Explanation) -> None:
    assert "contribution of arm, nats" in shown(explanation, "arm")
    check_colour("arm", ["base", "arm"])
    with pytest.raises(OptionError, match="no term `amr`") as refusal:
        check_colour("amr", ["base", "arm"])
    assert refusal.value.hint == "did you mean `arm`?"


def test_what_did_not_run_and_what_is_no_sum_is_said(tiny_llama: str, lora_a: str) -> None:
    bound = {"base": raw(tiny_llama), "arm": raw(tiny_llama, lora_a)}
    off = Engine(Formula("base + 0*arm + w*arm", **bound, w=0)).explain("hi", "in the")
    assert "not run, its weight being 0: arm" in shown(off)
    pointwise = Engine(Formula("max(base, arm)", **bound)).explain("hi", "in the")
    assert "no contributions: the formula is no sum" in shown(pointwise)

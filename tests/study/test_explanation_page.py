"""The page of an explanation, in a browser without a network."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arith import Engine, Formula, SpecError
from arith.runtime.explaining.explanation import Explanation
from arith.study.explanation_page import write_explanation_page
from arith.study.prompt_text import prompt_text
from tests.runtime.reference import raw

HOSTILE = '</script><script>document.title="x"</script><img src=x onerror="document.title=1">'
TEXT = f"in the\n rain\té {HOSTILE} \u202egnp"


@pytest.fixture(scope="module")
def engine(tiny_llama: str, lora_a: str, lora_b: str) -> Engine:
    base, arm, other = raw(tiny_llama), raw(tiny_llama, lora_a), raw(tiny_llama, lora_b)
    return Engine(Formula("base + w*arm - 0.4*other", base=base, arm=arm, other=other, w=0.5))


@pytest.fixture(scope="module")
def explanation(engine: Engine) -> Explanation:
    return engine.explain(HOSTILE, TEXT, top=4)


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """`opened(explanation)` is its page; in the end no page has asked for anything or failed."""
    wrong: list[str] = []
    pages = []

    def show(explanation: Explanation) -> Any:
        path = write_explanation_page(tmp_path / "page.html", explanation)
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.on(
            "request", lambda request: wrong.append(request.url) if request.url != path.as_uri() else None
        )
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield show
    for page in pages:
        page.close()
    assert wrong == []


def tokens(page: Any) -> Any:
    return page.locator("#text [role=option]")


def columns(page: Any) -> list[str]:
    return [str(one) for one in page.locator("#alternatives th .name").all_inner_texts()]


def test_every_token_is_shown_and_no_text_is_code(opened: Any, explanation: Explanation) -> None:
    page = opened(explanation)
    shown = tokens(page).all_text_contents()
    assert len(shown) == len(explanation.tokens)
    text = "".join(shown).replace("⏎", "").replace("‹C3›", "").replace("‹E2›‹80›‹202E›", "\u202e")
    assert text.replace("·", " ") == TEXT
    assert page.locator("#prompt").inner_text() == HOSTILE
    assert page.title() == "base + w*arm - 0.4*other"
    assert page.locator("img").count() == 0 and page.locator("script").count() == 2


def test_the_token_clicked_has_its_alternatives(opened: Any, explanation: Explanation) -> None:
    page = opened(explanation)
    for place in (0, 3, len(explanation.tokens) - 1):
        tokens(page).nth(place).click()
        assert f"token {place + 1} of {len(explanation.tokens)}" in page.locator("#details").inner_text()
        token = explanation.tokens[place]
        distinct = {one.token_id: one for one in (*token.alternatives, token.chosen, token.base_choice)}
        expected = sorted(distinct.values(), key=lambda one: -one.log_prob)
        ids = page.locator("#alternatives tbody td:first-child").evaluate_all(
            "all => all.map(one => one.title)"
        )
        assert ids == [f"token {one.token_id}" for one in expected]
        row = page.locator("#alternatives tr.chosen td").all_inner_texts()
        chosen = token.chosen
        for name, cell in zip(("base", "arm", "other"), row[2:], strict=True):
            said, adds = cell.replace("−", "-").split("\n")
            assert float(said) == pytest.approx(chosen.log_probs[name], abs=0.006)
            assert float(adds.removeprefix("adds ")) == pytest.approx(chosen.contributions[name], abs=0.006)


def test_the_page_opens_at_the_largest_divergence(opened: Any, explanation: Explanation) -> None:
    page = opened(explanation)
    farthest = max(range(len(explanation.tokens)), key=lambda place: explanation.tokens[place].kl)
    assert page.locator("[aria-selected=true]").count() == 1
    assert tokens(page).nth(farthest).get_attribute("aria-selected") == "true"
    first = page.locator("#most tbody tr").first
    assert first.locator("td").first.inner_text() == str(farthest + 1)
    page.locator("#most tbody tr").nth(1).click()
    assert tokens(page).nth(farthest).get_attribute("aria-selected") == "false"


def test_the_keyboard_reaches_every_token(opened: Any, explanation: Explanation) -> None:
    page = opened(explanation)

    def selected() -> int:
        return int(tokens(page).evaluate_all("all => all.findIndex(one => one === document.activeElement)"))

    for _ in range(12):
        page.keyboard.press("Tab")
        if selected() >= 0:
            break
    last = len(explanation.tokens) - 1
    steps = [
        ("Home", 0),
        ("ArrowRight", 1),
        ("ArrowRight", 2),
        ("ArrowLeft", 1),
        ("End", last),
        ("ArrowRight", last),
    ]
    for key, place in steps:
        page.keyboard.press(key)
        assert selected() == place
        assert f"token {place + 1} of" in page.locator("#details").inner_text()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    lines = [token.chosen.text for token in explanation.tokens].index("\n")
    assert selected() > lines, "the line below begins behind the first newline"
    page.keyboard.press("ArrowUp")
    assert selected() <= lines


def test_colours_are_those_of_the_chosen_number(opened: Any, explanation: Explanation) -> None:
    page = opened(explanation)

    def colours() -> list[str]:
        return list(tokens(page).evaluate_all("all => all.map(one => getComputedStyle(one).backgroundColor)"))

    def parts(colour: str) -> tuple[int, ...]:
        return tuple(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))

    order = sorted(range(len(explanation.tokens)), key=lambda place: explanation.tokens[place].kl)
    blue = [parts(colours()[place])[2] for place in order]
    assert blue == sorted(blue, reverse=True) and blue[0] > 230 and blue[-1] < 100
    page.locator("#colour").select_option("difference:arm")
    for token, colour in zip(explanation.tokens, colours(), strict=True):
        difference = token.chosen.log_probs["arm"] - token.chosen.log_probs["base"]
        red, _, blue_part = parts(colour)
        assert difference * (red - blue_part) >= 0
    values = page.locator("#colour option").evaluate_all("all => all.map(one => one.value)")
    assert {"kl", "contribution:base", "contribution:other", "tips:arm", "difference:"} <= set(values)
    for value in values:
        page.locator("#colour").select_option(value)
        assert len(set(colours())) > 1


def test_an_operand_can_be_switched_off(opened: Any, explanation: Explanation) -> None:
    page = opened(explanation)
    tokens(page).nth(2).click()
    assert columns(page) == ["base", "arm", "other"]
    page.locator("input[value=other]").uncheck()
    assert columns(page) == ["base", "arm"]
    token = explanation.tokens[2]
    distinct = {one.token_id: one for one in (*token.alternatives, token.chosen, token.base_choice)}
    listed = sorted(distinct.values(), key=lambda one: -one.log_prob)
    sums = [one.contributions["base"] + one.contributions["arm"] for one in listed]
    shown = [float(one.replace("−", "-")) for one in page.locator("#alternatives td.sum").all_inner_texts()]
    assert shown == pytest.approx([one - max(sums) for one in sums], abs=0.006)
    page.locator("input[value=other]").check()
    assert columns(page) == ["base", "arm", "other"] and page.locator("td.sum").count() == 0


def test_what_did_not_run_and_what_is_no_sum_is_said(
    opened: Any, engine: Engine, tiny_llama: str, lora_a: str
) -> None:
    off = opened(engine.explain([{"role": "user", "content": "hi"}], "in the", params={"w": 0}))
    assert off.locator("input[value=arm]").is_disabled()
    assert off.locator("#colour option[value='contribution:arm']").count() == 0
    assert "arm (weight 0: not run)" in off.locator("#operands").inner_text()
    assert columns(off) == ["base", "other"] and off.locator("#prompt").inner_text() == "user: hi"
    bound = {"base": raw(tiny_llama), "arm": raw(tiny_llama, lora_a)}
    pointwise = opened(Engine(Formula("max(base, top_k(arm, 3))", **bound)).explain("hi", "in the"))
    assert "no sum" in pointwise.locator("#details").inner_text()
    assert pointwise.locator("#colour option[value^=contribution]").count() == 0
    excluding = Engine(Formula("base - 0.5*top_k(arm, 3)", **bound)).explain("hi", "abc", top=5)
    page = opened(excluding)
    tokens(page).first.click()
    assert "−∞" in page.locator("#details").inner_text()


def test_500_tokens_make_one_page_that_answers(opened: Any, engine: Engine) -> None:
    page = opened(engine.explain("x", [32 + (7 * number * number) % 90 for number in range(480)], top=10))
    assert tokens(page).count() == 480
    tokens(page).nth(470).click()
    assert "token 471 of 480" in page.locator("#details").inner_text()


def test_a_page_that_can_not_be_written_is_refused(explanation: Explanation, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="can't be written"):
        write_explanation_page(tmp_path / "none" / "page.html", explanation)


def test_prompts_are_shown_as_a_reader_sees_them() -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}]
    assert prompt_text({"prompt": messages, "id": 3}) == "system: Be kind.\nuser: hi"
    assert prompt_text({"prompt": "hi", "id": 3}) == prompt_text("hi") == "hi"

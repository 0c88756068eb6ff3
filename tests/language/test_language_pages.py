"""What the pages about the language show as printed is what their Python prints."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from arith.language.operators import REGISTRY

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", ["language.md", "language-syntax.md"])
def test_what_a_page_shows_is_what_its_python_prints(name: str) -> None:
    namespace: dict[str, object] = {"__name__": "__page__"}
    shown = 0
    for code, expected in BLOCK.findall((DOCS / name).read_text(encoding="utf-8")):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, name, "exec"), namespace)
        assert printed.getvalue() == expected
        shown += bool(expected)
    assert shown


def test_the_page_has_every_operator() -> None:
    page = (DOCS / "language.md").read_text(encoding="utf-8")
    table = page[page.index("## Operators") : page.index("In `average`")]
    assert [name for name in REGISTRY if not re.search(rf"`{name}[(`]", table)] == []

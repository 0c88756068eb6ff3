"""What the pages about the language show as printed is what their Python prints."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from arith.language.operators import REGISTRY
from arith.language.operators.page import page

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


def test_the_page_of_operators_is_what_the_registry_says() -> None:
    written = (DOCS / "operators.md").read_text(encoding="utf-8")
    assert written == page(), "write it anew: python -m arith.language.operators.page > docs/operators.md"
    assert [name for name in REGISTRY if f"`{name}`" not in written] == []

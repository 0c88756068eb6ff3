"""Self-contained pages: a template with data in it, that loads nothing and runs no script but its own."""

import base64
import hashlib
import html
import json
import re
from pathlib import Path

from arith.errors import SpecError

TEMPLATES = Path(__file__).parent / "pages"
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def write_page(path: Path, template: str, title: str, data: object) -> Path:
    """Writes the template of that name with the title and, as JSON, the data: its path.

    In the template `@TITLE@` and `@DATA@` stand for them, and `@SCRIPT@` for the digest of its script. Texts
    in the data can't end the element that they stand in, and the page's policy lets the browser run that one
    script and fetch nothing. Raises `SpecError` where the file can't be written.
    """
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    (script,) = _SCRIPT.findall(text)
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode()
    content = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    filled = {"SCRIPT": f"sha256-{digest}", "TITLE": html.escape(title), "DATA": content}
    page = re.sub("@(SCRIPT|TITLE|DATA)@", lambda match: filled[match.group(1)], text)
    try:
        path.write_bytes(page.encode("utf-8"))
    except OSError as error:
        raise SpecError(f"{path}: can't be written: {(error.strerror or str(error)).lower()}") from None
    return path

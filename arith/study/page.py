"""Self-contained pages: a template with data in it, that loads nothing and runs no script but its own."""

import base64
import hashlib
import html
import json
import re
from pathlib import Path

from arith.errors import SpecError, reason_of

TEMPLATES = Path(__file__).parent / "pages"
HEAD = "head.html"
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def write_page(path: Path, template: str, title: str, data: object) -> Path:
    """Writes the template of that name with the title and, as JSON, the data: its path.

    `@HEAD@` in the template stands for the beginning that all pages have, with the policy and the style of
    what they share; in both `@TITLE@` and `@DATA@` stand for these, and `@SCRIPT@` for the script's digest.
    Texts in the data can't end the element that they stand in, and the page's policy lets the browser run
    that one script and fetch nothing. Raises `SpecError` where the file can't be written.
    """
    head, own = ((TEMPLATES / name).read_text(encoding="utf-8") for name in (HEAD, template))
    text = own.replace("@HEAD@\n", head, 1)
    (script,) = _SCRIPT.findall(text)
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode()
    content = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    filled = {"SCRIPT": f"sha256-{digest}", "TITLE": html.escape(title), "DATA": content}
    page = re.sub("@(SCRIPT|TITLE|DATA)@", lambda match: filled[match.group(1)], text)
    try:
        path.write_bytes(page.encode("utf-8"))
    except OSError as error:
        raise SpecError(f"{path}: can't be written: {reason_of(error)}") from None
    return path

"""The page of an explanation: its text as a heat map, and what operands said of the token one looks at."""

import math
from pathlib import Path
from typing import Any

from arith.runtime.explaining.explanation import Explanation
from arith.study.page import write_page
from arith.study.prompt_text import prompt_text

HTML = "explanation.html"
DIGITS = 5  # behind the point, so that a page of many tokens stays small


def write_explanation_page(path: Path, explanation: Explanation) -> Path:
    """Writes the page: its path. It needs no other file and no network. Raises `SpecError` where it can't be
    written."""
    mean = explanation.mean_kl
    data = {
        **explanation.as_data(),
        "prompt": prompt_text(explanation.prompt),
        "log_prob": explanation.log_prob if math.isfinite(explanation.log_prob) else None,
        "mean_kl": mean if math.isfinite(mean) else None,
    }
    return write_page(path, HTML, explanation.formula, _rounded(data))


def _rounded(value: Any) -> Any:
    """The data with its numbers rounded."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, DIGITS) if isinstance(value, float) else value

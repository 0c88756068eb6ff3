"""The rows of a run: what heads each row of results, and what sets one run apart from another."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from arith.prompts_file import PromptLine
from arith.results_file import Row, row_key
from arith.spec import Spec
from grammar.parse import parse
from grammar.printer import to_text


def heads(lines: Sequence[PromptLine], params: Mapping[str, float]) -> list[dict[str, object]]:
    """For each line what is known beforehand of its rows; `occurrence` numbers equal prompts from 0."""
    seen: Counter[str] = Counter()
    made = []
    for line in lines:
        head: dict[str, object] = {} if line.id is None else {"id": line.id}
        head["prompt"] = line.prompt
        if line.fields:
            head["fields"] = dict(line.fields)
        if line.completion is not None:
            head["completion"] = line.completion
        content = json.dumps([line.prompt, line.fields, line.completion], sort_keys=True)
        made.append({**head, "params": dict(params), "occurrence": seen[content]})
        seen[content] += 1
    return made


def missing_rows(heads: Sequence[Row], samples: int, done: Collection[str]) -> set[tuple[int, int]]:
    """Index of the prompt and number of the sample of every row whose key isn't in `done`."""
    return {
        (index, sample)
        for index, head in enumerate(heads)
        for sample in range(samples)
        if row_key({**head, "sample": sample}) not in done
    }


def run_of(spec: Spec, options: Mapping[str, object]) -> str:
    """A digest of the formula, its operands and the options: rows of one file agree in it."""
    content = json.dumps([to_text(parse(spec.text)), spec.declared, options], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]

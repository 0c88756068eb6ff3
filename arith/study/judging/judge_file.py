"""A judge in a YAML file of its own."""

from collections.abc import Iterable
from pathlib import Path

from arith.errors import SpecError
from arith.study.judging.keys import JudgeKeys, Price
from arith.validation import validated
from arith.yaml_document import Key, read_yaml


def read_judge(path: Path) -> JudgeKeys:
    """A judge that compares two results. Raises `SpecError` for the first thing that is wrong in the file."""
    document = read_yaml(path)
    keys = validated(
        JudgeKeys,
        document,
        noun="judge",
        beginning="url: https://api.openai.com/v1",
        kinds=(),
        known=_known,
    )
    for name in ("reference", "reference_point"):
        if getattr(keys, name) is not None:
            message = f"{document.place((name,))}: `{name}` is for the scores of a sweep"
            raise SpecError(message, "two results are compared with each other: take it out")
    return keys


def _known(location: Key) -> Iterable[str]:
    """The keys beside the one at that place."""
    return (JudgeKeys if len(location) == 1 else Price).model_fields

"""The scorers that are asked for, by their names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from arith.errors import ArithError, OptionError, SpecError
from arith.local_path import seen_from
from arith.spec_file import ClassifierKeys
from arith.study.judging.keys import JudgeKeys
from arith.study.results import ResultRow
from arith.study.scoring.keys import (
    LogLikelihoodKeys,
    PythonKeys,
    RewardKeys,
    ScorerKeys,
    TextMeasureKeys,
    scorers_in,
)
from arith.study.scoring.scorer import Scorer
from arith.study.scoring.text_measures import MEASURES, TextMeasure
from arith.yaml_document import read_yaml
from grammar.errors import nearest


@dataclass(frozen=True)
class Asked:
    """One scorer that is asked for: its keys, and the folder from which it sees paths and modules."""

    keys: ScorerKeys
    folder: Path


def asked_for(given: Sequence[str]) -> dict[str, Asked]:
    """What each `--with` names: the scorers of a file, or a measure that needs no settings.

    Raises `OptionError` for what is neither and for a name that is given twice, and `SpecError` for a file
    with something wrong in it.
    """
    found: dict[str, Asked] = {}
    for one in given:
        for name, asked in _one(one).items():
            if name in found:
                raise OptionError(f"--with {one}: there are two scorers `{name}`", "give one another name")
            found[name] = asked
    return found


def _one(given: str) -> dict[str, Asked]:
    if given in MEASURES:
        keys = TextMeasureKeys.model_validate({"kind": given})
        return {given: Asked(keys, Path())}
    path = Path(given)
    if not path.exists() and path.suffix.lower() not in (".yaml", ".yml"):
        close = nearest(given, MEASURES)
        hint = f"did you mean `{close}`?" if close else "a scorer with settings stands in a YAML file"
        raise OptionError(f"--with {given}: is neither a file nor one of {', '.join(MEASURES)}", hint)
    return {name: Asked(keys, path.parent) for name, keys in scorers_in(read_yaml(path)).items()}


@dataclass(frozen=True)
class Task:
    """What is to be scored: the folder of a sweep or a results file, and its rows; `device`, `max_rows` are
    those of an engine."""

    results: Path
    rows: Sequence[ResultRow]
    device: str | None = None
    max_rows: int | None = None


def scorer_of(name: str, asked: Asked, task: Task) -> Scorer:
    """The scorer of that name.

    No weights are loaded. Raises `SpecError`, led by the name, for what can't be a scorer.
    """
    try:
        return _scorer(asked, task)
    except ArithError as error:
        raise SpecError(f"scorer `{name}`: {error.message}", error.hint) from None


def _scorer(asked: Asked, task: Task) -> Scorer:
    keys = asked.keys
    if isinstance(keys, TextMeasureKeys):
        return TextMeasure(keys.kind)
    if isinstance(keys, PythonKeys):
        from arith.study.scoring.python_function import PythonFunction

        return PythonFunction(keys.function, asked.folder)
    if isinstance(keys, LogLikelihoodKeys):
        from arith.study.scoring.log_likelihood import LogLikelihood

        spec = None if keys.spec is None else seen_from(asked.folder, keys.spec)
        found = keys.model_copy(update={"spec": spec})
        return LogLikelihood(found, task.results, task.device, task.max_rows)
    if isinstance(keys, RewardKeys | ClassifierKeys):
        return _sequence_model(keys, asked.folder, task.device)
    if isinstance(keys, JudgeKeys):
        from arith.study.judging.judge import Judge

        return Judge(keys, asked.folder, task.rows)
    assert_never(keys)


def _sequence_model(keys: RewardKeys | ClassifierKeys, folder: Path, device: str | None) -> Scorer:
    from arith.operands import Classifier, RewardModel
    from arith.study.scoring.sequence_model import SequenceModelScorer

    values = keys.model_dump(exclude_unset=True, exclude={"kind"})
    values["model"] = seen_from(folder, keys.model)
    operand = Classifier(**values) if isinstance(keys, ClassifierKeys) else RewardModel(**values)
    return SequenceModelScorer(operand, device)

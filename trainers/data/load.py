"""Data sets for training: rows read, understood, encoded and divided."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

from arith.errors import SpecError
from arith.operands import LLM
from trainers.data.encoding import EncodedPair, Encoder, Limits, RefusedPrompt
from trainers.data.keys import DataKeys, DataSet
from trainers.data.report import DataReport, FileReport
from trainers.data.rows import data_set_name, placed_rows
from trainers.data.sources import SkippedRow
from trainers.data.sources.columns import RowReader
from trainers.data.split import validation_prompts

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Data:
    """What to train and validate on, and what became of the rows.

    The data sets' columns: `prompt_ids`, `chosen_ids` and, for pairs, `rejected_ids` (lists of token ids),
    `length` (tokens of them all), and `place`, where the row comes from.
    """

    train: "datasets.Dataset"
    validation: "datasets.Dataset | None"
    report: DataReport


@dataclass(frozen=True)
class _UsedRow:
    columns: dict[str, Any]
    prompt: bytes  # its digest

    @classmethod
    def of(cls, place: str, pair: EncodedPair, digest: bytes) -> "_UsedRow":
        # As arrays: Python's whole numbers would take eight times the memory.
        ids = {"prompt_ids": _ids(pair.prompt_ids), "chosen_ids": _ids(pair.chosen_ids)}
        if pair.rejected_ids is not None:
            ids["rejected_ids"] = _ids(pair.rejected_ids)
        return cls({**ids, "length": pair.length, "place": place}, digest)


def load_data(
    keys: DataKeys,
    folder: Path,
    operand: LLM,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    end_id: int | None,
    window: int | None,
    pairs: bool,
    seed: int,
) -> Data:
    """Read and encode what `keys` names. Local paths are seen from `folder`.

    end_id: the token that ends an answer; None for none.
    window: the model's context window in tokens, which no row exceeds; None where it has no end.
    pairs: whether the objective compares two answers; without, the chosen or only answer is taken.
    seed: of the split, where `keys.validation` is a fraction.

    Raises `SpecError` for a file that can't be used, and where no row can be; `OperandError` as
    `arith.operands.prompts.render` does.
    """
    reader = RowReader(keys.source, keys.columns, pairs)
    limits = Limits.of(keys.max_length, keys.max_prompt_length, window)
    encoder = Encoder(operand, tokenizer, end_id, limits, pairs)
    train, report = _used_rows(keys.train, folder, "train", reader, encoder)
    validation: list[_UsedRow] = []
    validation_report = None
    if isinstance(keys.validation, DataSet):
        validation, validation_report = _used_rows(keys.validation, folder, "test", reader, encoder)
    elif keys.validation is not None:
        aside = validation_prompts((row.prompt for row in train), keys.validation, seed)
        validation = [row for row in train if row.prompt in aside]
        train = [row for row in train if row.prompt not in aside]
    prompts, held_prompts = ({row.prompt for row in rows} for rows in (train, validation))
    whole_report = DataReport(
        train=report,
        validation=validation_report,
        train_rows=len(train),
        train_prompts=len(prompts),
        validation_rows=len(validation),
        validation_prompts=len(held_prompts),
        shared_prompts=len(prompts & held_prompts),
    )
    return Data(_data_set(train), _data_set(validation) if validation else None, whole_report)


def _used_rows(
    data: DataSet, folder: Path, split: str, reader: RowReader, encoder: Encoder
) -> tuple[list[_UsedRow], FileReport]:
    """The rows that can be trained on, and the report of all. Raises `SpecError` where there are none."""
    report = FileReport(data_set_name(data, split=split))
    used = []
    for place, values in placed_rows(data, folder, split=split):
        report.read += 1
        try:
            encoded = encoder.encode(reader.example(place, values))
        except RefusedPrompt as refusal:
            report.drop(refusal.cause, refusal.reason)
        except SkippedRow as skipped:
            report.drop(skipped.cause, place)
        else:
            report.used += 1
            for cut in encoded.cuts:
                report.note_cut(cut, place)
            used.append(_UsedRow.of(place, encoded.pair, encoded.prompt_digest))
    if not report.read:
        raise SpecError(f"{report.name}: holds no rows")
    if not used:
        raise SpecError(f"{report.name}: no row can be used", "\n  ".join([report.counts, *report.causes()]))
    return used, report


def _data_set(rows: Sequence[_UsedRow]) -> "datasets.Dataset":
    from datasets import Dataset, Features, List, Value

    kinds = {"length": Value("int64"), "place": Value("string")}
    names = list(rows[0].columns)
    features = Features({name: kinds.get(name, List(Value("int32"))) for name in names})
    return Dataset.from_dict({name: [row.columns[name] for row in rows] for name in names}, features=features)


def _ids(ids: list[int]) -> "numpy.typing.NDArray[numpy.int32]":
    return numpy.asarray(ids, dtype=numpy.int32)

"""Contrast pairs on disk: JSON Lines which preference data is read from as they are."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from arith.cli.output import refuse_input
from arith.errors import SpecError
from arith.prompts_file import PromptLine
from arith.results_file import ResultsFile, Row, RowFormat, check_writable, row_key

if TYPE_CHECKING:
    from trainers.pairs import Flaw, Pair

KEY = ("prompt", "params", "occurrence", "sample")
COLUMNS = (*KEY, "id", "chosen", "rejected", "seed", "flaw", "run")


@dataclass(frozen=True)
class PairFiles:
    """The file of the pairs, and the one beside it of those that nothing should be trained on."""

    kept: ResultsFile
    flawed: ResultsFile

    @classmethod
    @contextmanager
    def open(
        cls, out: Path, inputs: Sequence[Path | None], run: str, *, resume: bool, overwrite: bool
    ) -> Iterator[Self]:
        """The files of `--out`; `inputs` are those that the command reads. Raises what `ResultsFile` raises,
        and `SpecError` for an input as output."""
        check_writable(out)
        beside = out.with_name(f"{out.stem}.flawed{out.suffix}")
        for path in (out, beside):
            refuse_input(path, inputs)
        opened = partial(
            ResultsFile, run=run, resume=resume, overwrite=overwrite, format=RowFormat(key=pair_key)
        )
        with opened(out) as kept, opened(beside) as flawed:
            yield cls(kept, flawed)

    @property
    def done(self) -> set[str]:
        """The keys of all pairs that are there, and so aren't written again."""
        return self.kept.done | self.flawed.done

    def append(self, row: Row, flaw: "Flaw | None") -> None:
        """Write one pair where it belongs."""
        # Both before the first row: of a run that is overwritten nothing may stay in either.
        self.flawed.begin()
        self.kept.begin()
        if flaw is None:
            self.kept.append(row)
        else:
            self.flawed.append({**row, "flaw": flaw})


def pair_row(pair: "Pair", head: Row) -> Row:
    """The pair as a row. The prompt's fields are columns, where templates find them when an operand is
    trained; to a prompt of messages an answer is a list of messages too."""

    def answer(text: str) -> object:
        return text if isinstance(head["prompt"], str) else [{"role": "assistant", "content": text}]

    named = {name: head[name] for name in ("id", "prompt") if name in head}
    texts = {"chosen": answer(pair.chosen.text), "rejected": answer(pair.rejected.text)}
    fields = head.get("fields", {})
    assert isinstance(fields, dict)
    counted = {"params": head["params"], "occurrence": head["occurrence"], "sample": pair.sample}
    return {**named, **texts, **fields, **counted, "seed": pair.chosen.seed}


def pair_key(row: Row) -> str:
    """The key of a row that has the prompt's fields as columns: that of its head and sample."""
    fields = {name: value for name, value in row.items() if name not in COLUMNS}
    own = {name: row[name] for name in KEY if name in row}
    return row_key({**own, "fields": fields} if fields else own)


def refuse_own_columns(lines: Iterable[PromptLine]) -> None:
    """Raises `SpecError` for a prompt with a field whose name is that of a pair's column."""
    for line in lines:
        for name in line.fields:
            if name in COLUMNS:
                message = f"{line.place}: the field `{name}` would stand in the place of the pair's own"
                raise SpecError(message, "leave it out of the prompts, or rename it")

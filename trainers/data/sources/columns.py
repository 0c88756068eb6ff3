"""From the columns of a file to the examples of a source."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from arith.errors import SpecError
from grammar.errors import nearest
from trainers.data.example import Example
from trainers.data.keys import SourceName
from trainers.data.sources import SOURCES
from trainers.data.sources.row import Row


@dataclass(frozen=True)
class RowReader:
    """Reads a file's rows as examples of one source.

    columns: the file's names of columns that the source calls otherwise.
    pairs: whether rows must have two answers.

    Raises `SpecError` for a name in `columns` that isn't one of the source's.
    """

    source: SourceName
    columns: Mapping[str, str]
    pairs: bool

    def __post_init__(self) -> None:
        known = SOURCES[self.source].columns
        for name in self.columns:
            if name not in known:
                close = nearest(name, known)
                hint = f"did you mean `{close}`?" if close else f"its columns are {', '.join(known)}"
                raise SpecError(f"`data.columns`: source {self.source} has no column `{name}`", hint)

    def example(self, place: str, values: Mapping[str, object]) -> Example:
        """The example of a row. Raises `SkippedRow` and `SpecError` as the source does, and for a column that
        isn't there."""
        own = {name: value for name, value in values.items() if name not in self._renamed}
        own |= {name: values[there] for name, there in self.columns.items() if there in values}
        source = SOURCES[self.source]
        missing = source.missing(own, pairs=self.pairs)
        if missing:
            raise self._misfit(place, missing, values)
        for there in self.columns.values():
            if there not in values:  # one that the source can do without would be passed over
                listed = f"the columns are {', '.join(map(str, values))}"
                raise SpecError(
                    f"{place}: `data.columns` names `{there}`, and there is no such column", listed
                )
        fields = {name: value for name, value in own.items() if name not in source.columns}
        return replace(source.read(Row(place, own)), fields=fields)

    @property
    def _renamed(self) -> set[str]:
        return {*self.columns, *self.columns.values()}

    def _misfit(self, place: str, missing: list[str], there: Mapping[str, object]) -> SpecError:
        names = ", ".join(f"`{self.columns.get(name, name)}`" for name in missing)
        message = f"{place}: source {self.source} needs the column{'s' * (len(missing) > 1)} {names}"
        listed = f"the columns are {', '.join(map(str, there))}" if there else "there are no columns"
        fits = [
            name for name, source in SOURCES.items()
            if name != self.source and not source.missing(there, pairs=self.pairs)
        ]  # fmt: skip
        fix = (
            f"source {' or '.join(fits)} reads them"
            if fits
            else f"`data.columns` gives other names: {{{missing[0]}: NAME}}"
        )
        return SpecError(message, f"{listed}; {fix}")

"""A source of data: which columns its rows have, and how they become examples."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trainers.data.example import Example
from trainers.data.sources.row import Row

Columns = tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """One format of preference data.

    description: whose format it is, in a line.
    pairs: the sets of columns that make a pair of answers; a row must have one of them whole.
    read: the example of a row that has one of the sets. Raises `SkippedRow` where the row can't be used and
        `SpecError` where it isn't what the format says.
    singles: the sets of columns that hold one answer only, for objectives without pairs.
    optional: further columns that `read` looks at.
    """

    description: str
    pairs: tuple[Columns, ...]
    read: Callable[[Row], Example]
    singles: tuple[Columns, ...] = ()
    optional: Columns = ()

    @property
    def columns(self) -> Columns:
        """Every column that the source knows, in the order in which they are declared."""
        sets = (*self.pairs, *self.singles, self.optional)
        return tuple(dict.fromkeys(column for columns in sets for column in columns))

    def missing(self, there: Mapping[str, object], *, pairs: bool) -> list[str]:
        """The columns that a row lacks, of the set that it comes closest to; none where it has one whole."""
        sets = self.pairs if pairs else (*self.pairs, *self.singles)
        return min(([column for column in columns if column not in there] for columns in sets), key=len)

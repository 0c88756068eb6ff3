"""What became of the rows: how many were read, used, dropped and cut, and why."""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Tally:
    """How many rows one cause concerns, and the place of the first, or what was said of it."""

    rows: int
    first: str


@dataclass
class FileReport:
    """The rows of one file or data set, by what became of them; `dropped` and `cut` go by cause."""

    name: str
    read: int = 0
    used: int = 0
    dropped: dict[str, Tally] = field(default_factory=dict)
    cut: dict[str, Tally] = field(default_factory=dict)

    def drop(self, cause: str, first: str) -> None:
        """Count a row that isn't used."""
        self.dropped.setdefault(cause, Tally(0, first)).rows += 1

    def note_cut(self, cause: str, first: str) -> None:
        """Count a row that is used, but not whole."""
        self.cut.setdefault(cause, Tally(0, first)).rows += 1

    @property
    def counts(self) -> str:
        """Rows read and used."""
        return f"{self.name}: {_counted(self.read, 'row')} read, {self.used:,} used"

    def causes(self) -> Iterator[str]:
        """A line for every cause, the most frequent first."""
        for what, tallies in (("dropped", self.dropped), ("cut", self.cut)):
            for cause, tally in sorted(tallies.items(), key=lambda item: -item[1].rows):
                yield f"{what} {tally.rows:,}: {cause} (first: {tally.first})"

    def __str__(self) -> str:
        return "\n  ".join([self.counts, *self.causes()])


@dataclass(frozen=True)
class DataReport:
    """The reports of what was read, and how it was divided.

    train, validation: the files' reports; `validation` is None without a file of its own.
    train_rows, validation_rows: rows on each side in the end.
    train_prompts, validation_prompts: different prompts on each side.
    shared_prompts: prompts that stand on both sides, where validation has a file of its own.
    """

    train: FileReport
    validation: FileReport | None
    train_rows: int
    train_prompts: int
    validation_rows: int = 0
    validation_prompts: int = 0
    shared_prompts: int = 0

    def __str__(self) -> str:
        lines = [str(self.train)]
        if self.validation is not None:
            lines.append(str(self.validation))
        sides = [("training", self.train_rows, self.train_prompts)]
        if self.validation_rows:
            sides.append(("validating", self.validation_rows, self.validation_prompts))
        for side, rows, prompts in sides:
            lines.append(f"{side} on {_counted(rows, 'row')} with {_counted(prompts, 'prompt')}")
        if self.shared_prompts:
            lines.append(f"prompts that stand in both files: {self.shared_prompts:,}")
        return "\n".join(lines)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

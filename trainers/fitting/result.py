"""What a fit found."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from arith.params_file import write_params


@dataclass(frozen=True)
class Fit:
    """`values` are those of all the formula's parameters, `start` those that the search began with, `fitted`
    the names of those that varied; `before` and `after` are figures by what they are called. Printed, it is a
    table."""

    objective: str
    fitted: tuple[str, ...]
    start: Mapping[str, float]
    values: Mapping[str, float]
    before: Mapping[str, float]
    after: Mapping[str, float]
    texts: int
    tokens: int
    evaluations: int

    def save(self, path: str | Path) -> None:
        """Writes the values to a file that `--params` takes."""
        write_params(Path(path), self.values)

    def __str__(self) -> str:
        pairs = [(name, self.start[name], self.values[name]) for name in self.fitted]
        pairs += [(name, self.before[name], self.after[name]) for name in self.after]
        width = max(len(name) for name, _, _ in pairs)
        lines = [f"{'':{width}}  {'start':>12}  {'fitted':>12}"]
        lines += [f"{name:{width}}  {start:12.6f}  {end:12.6f}" for name, start, end in pairs]
        lines.append(f"{self.texts} texts, {self.tokens:,} tokens, {self.evaluations} evaluations")
        return "\n".join(lines)

"""One example of the data, whatever source it came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from arith.operands.prompts import Message


@dataclass(frozen=True)
class Example:
    """A prompt and its answers, as text.

    prompt: text, or a list of chat messages.
    chosen, rejected: the answers, unstripped; `rejected` is None where the data has one answer only.
    place: where it stands: `file:line`, or the file or data set and the row's number.
    fields: the row's further columns, which `system` and `template` of an operand may name.
    """

    prompt: str | Sequence[Message]
    chosen: str
    rejected: str | None
    place: str
    fields: Mapping[str, object] = field(default_factory=dict)

    @property
    def whole_prompt(self) -> Mapping[str, object]:
        """The prompt with its fields, as `arith.operands.prompts.render` takes it."""
        return {**self.fields, "prompt": self.prompt}

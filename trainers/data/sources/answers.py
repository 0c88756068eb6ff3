"""Two conversations that end in the answers to compare."""

from collections.abc import Sequence

from arith.operands.prompts import Message
from trainers.data.sources.row import SkippedRow

ANOTHER_CONTEXT = "the two sides answer different conversations"


def answered(messages: Sequence[Message], column: str) -> tuple[list[Message], str]:
    """The conversation before its last message, and the text of that, which the assistant must have written.

    Raises `SkippedRow` for another last message, and for none.
    """
    if not messages or messages[-1]["role"] != "assistant":
        raise SkippedRow(f"`{column}` doesn't end in a message of the assistant")
    return list(messages[:-1]), messages[-1]["content"]


def compared(chosen: Sequence[Message], rejected: Sequence[Message]) -> tuple[list[Message], str, str]:
    """The conversation that both sides answer, and the two answers.

    Raises `SkippedRow` as `answered` does, and where the sides answer different conversations.
    """
    context, answer = answered(chosen, "chosen")
    other_context, other_answer = answered(rejected, "rejected")
    if context != other_context:
        raise SkippedRow(ANOTHER_CONTEXT)
    return context, answer, other_answer

"""TRL's formats: texts or message lists, the prompt in its own column or at the head of both answers.

Source: "Dataset formats and types" in TRL's documentation.
"""

from arith.operands.prompts import Message
from trainers.data.example import Example
from trainers.data.sources.answers import answered, compared
from trainers.data.sources.row import Row, SkippedRow
from trainers.data.sources.source import Source

_PAIR = ("chosen", "rejected")


def read_preference(row: Row) -> Example:
    """The pair of a row, or its one answer where it has no pair.

    Answers are text, or message lists whose last message is the answer; those before it belong to the prompt.
    """
    if all(column in row.values for column in _PAIR):
        return _pair(row)
    if "completion" not in row.values:
        context, answer = answered(row.messages("messages"), "messages")
        return Example(context, answer, None, row.place)
    prompt, completion = row.text_or_messages("prompt"), row.text_or_messages("completion")
    if isinstance(completion, str):
        return Example(prompt, completion, None, row.place)
    context, answer = answered(_whole(prompt, completion), "completion")
    return Example(context, answer, None, row.place)


def _pair(row: Row) -> Example:
    chosen, rejected = (row.text_or_messages(column) for column in _PAIR)
    prompt = row.text_or_messages("prompt") if row.has("prompt") else None
    if isinstance(chosen, str) and isinstance(rejected, str):
        if prompt is None:
            if "prompt" in row.values:  # where messages say who speaks, the prompt is found all the same
                raise SkippedRow("`prompt` is null")
            prompt, chosen, rejected = common_prompt(chosen, rejected)
        return Example(prompt, chosen, rejected, row.place)
    if isinstance(chosen, str) or isinstance(rejected, str):
        raise row.wrong("rejected", "must be text where `chosen` is, and messages where that is messages")
    if prompt is not None:
        chosen, rejected = _whole(prompt, chosen), _whole(prompt, rejected)
    return Example(*compared(chosen, rejected), row.place)


def _whole(prompt: str | list[Message], answer: list[Message]) -> list[Message]:
    """The conversation with the answer; some data sets repeat the prompt there, and some don't."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return answer if answer[: len(messages)] == messages else [*messages, *answer]


def common_prompt(chosen: str, rejected: str) -> tuple[str, str, str]:
    """The prompt that two texts begin with, and what follows it in each.

    The answers start with the word in which they first differ, and with the space before it. (TRL does the
    same where they differ from a word's first letter on, and else cuts inside the word.) Raises `SkippedRow`
    where the texts have no beginning in common.
    """
    pairs = enumerate(zip(chosen, rejected, strict=False))
    cut = next((place for place, (left, right) in pairs if left != right), min(len(chosen), len(rejected)))
    while cut and not chosen[cut - 1].isspace():
        cut -= 1
    if cut and chosen[cut - 1] == " ":
        cut -= 1
    if not chosen[:cut].strip():
        raise SkippedRow("no column `prompt`, and the two sides have no beginning in common")
    return chosen[:cut], chosen[cut:], rejected[cut:]


PREFERENCE = Source(
    description="TRL's preference formats: prompt, chosen, rejected as texts or message lists",
    pairs=(("chosen", "rejected"),),
    read=read_preference,
    singles=(("prompt", "completion"), ("messages",)),
    optional=("prompt",),
)

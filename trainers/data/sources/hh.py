"""HH-RLHF as its authors publish it: two transcripts, which differ in the assistant's last turn.

Source: Bai et al. 2022, "Training a Helpful and Harmless Assistant with Reinforcement Learning from Human
Feedback", arXiv 2204.05862; `Anthropic/hh-rlhf`.
"""

import re

from arith.operands.prompts import Message
from trainers.data.example import Example
from trainers.data.sources.answers import ANOTHER_CONTEXT, compared
from trainers.data.sources.row import Row, SkippedRow
from trainers.data.sources.source import Source

_ANSWER = "\n\nAssistant:"
_QUESTION = "\n\nHuman:"
_TURN = re.compile(r"\n\n(Human|Assistant):( ?)")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def transcript_messages(transcript: str) -> list[Message]:
    """The turns of a transcript as messages; their text is kept as it is, but for the space after the colon.

    Raises `SkippedRow` for text that doesn't begin with a turn.
    """
    before, *turns = _TURN.split(transcript)
    if before or not turns:
        raise SkippedRow("a transcript doesn't begin with a turn")
    return [
        {"role": _ROLES[speaker], "content": text}
        for speaker, text in zip(turns[::3], turns[2::3], strict=True)
    ]


def read_hh(row: Row) -> Example:
    """The turns before the last one as the prompt's messages, and the two last turns."""
    chosen, rejected = transcript_messages(row.text("chosen")), transcript_messages(row.text("rejected"))
    return Example(*compared(chosen, rejected), row.place)


def read_hh_transcript(row: Row) -> Example:
    """The transcript up to where the last answer begins, as it stands, and the answers with their space."""
    chosen, rejected = row.text("chosen"), row.text("rejected")
    if row.has("prompt"):
        prompt = row.text("prompt")
        if not prompt.endswith(_ANSWER):
            raise SkippedRow(f"`prompt` doesn't end in {_ANSWER!r}")
        return Example(prompt, chosen, rejected, row.place)
    prompt, answer = _last_answer(chosen, "chosen")
    other_prompt, other_answer = _last_answer(rejected, "rejected")
    if prompt != other_prompt:
        raise SkippedRow(ANOTHER_CONTEXT)
    return Example(prompt, answer, other_answer, row.place)


def _last_answer(transcript: str, column: str) -> tuple[str, str]:
    before, marker, answer = transcript.rpartition(_ANSWER)
    if not marker or _QUESTION in answer:
        raise SkippedRow(f"`{column}` doesn't end in a turn of the assistant")
    return before + marker, answer


HH = Source(
    description="HH-RLHF: chosen and rejected transcripts, read as chat messages",
    pairs=(("chosen", "rejected"),),
    read=read_hh,
)
HH_TRANSCRIPT = Source(
    description="HH-RLHF or full-hh-rlhf, with the transcript as the prompt, for `template: raw`",
    pairs=(("chosen", "rejected"),),
    read=read_hh_transcript,
    optional=("prompt",),
)

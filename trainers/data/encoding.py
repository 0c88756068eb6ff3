"""Examples as token ids: the prompt as the operand reads it, and the answers, cut to what the model takes."""

import hashlib
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arith.errors import PromptError, SpecError
from arith.operands import LLM
from arith.operands.prompts import encode_continuation, render
from trainers.data.example import Example
from trainers.data.sources import SkippedRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPT_CUT = "the prompt, which keeps its end"
ANSWER_CUT = "an answer, which loses its end and the token that ends the turn"
REFUSED = "the prompt can't be rendered"
_SHOWN_CHARACTERS = 300


class RefusedPrompt(SkippedRow):
    """A prompt that the operand's template has no place for; `reason` says why, with the row's place."""

    def __init__(self, reason: str):
        super().__init__(REFUSED)
        self.reason = reason if len(reason) <= _SHOWN_CHARACTERS else f"{reason[:_SHOWN_CHARACTERS]} …"


@dataclass(frozen=True)
class Limits:
    """The most tokens of prompt and longer answer together, and of the prompt alone; None sets no limit."""

    length: int | None
    prompt: int | None

    @classmethod
    def of(cls, max_length: int | None, max_prompt_length: int | None, window: int | None) -> "Limits":
        """The limits of a recipe for a model with a context window of `window` tokens, which they default to.

        Raises `SpecError` for a limit over the window.
        """
        for key, limit in (("max_length", max_length), ("max_prompt_length", max_prompt_length)):
            if limit is not None and window is not None and limit > window:
                raise SpecError(
                    f"`data.{key}` is {limit}, but the model's context window has {window} tokens"
                )
        return cls(
            window if max_length is None else max_length,
            window if max_prompt_length is None else max_prompt_length,
        )


@dataclass(frozen=True)
class EncodedPair:
    """Token ids of a prompt and its answers, none of them empty; `rejected_ids` is None without pairs."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int] | None

    @property
    def length(self) -> int:
        """Tokens of the prompt and of every answer."""
        return len(self.prompt_ids) + len(self.chosen_ids) + len(self.rejected_ids or ())


@dataclass(frozen=True)
class Encoded:
    """A pair, what had to be cut off it (`PROMPT_CUT`, `ANSWER_CUT`), and a digest of the uncut prompt."""

    pair: EncodedPair
    cuts: tuple[str, ...]
    prompt_digest: bytes


@dataclass(frozen=True)
class Encoder:
    """Encodes examples for one operand.

    end_id: the token that follows each answer; None for none.
    pairs: whether the rejected answer is wanted.
    """

    operand: LLM
    tokenizer: "PreTrainedTokenizerBase"
    end_id: int | None
    limits: Limits
    pairs: bool

    def encode(self, example: Example) -> Encoded:
        """The example's token ids. Raises `SkippedRow` where there is nothing to learn from it, or no way to.

        That is an answer which is blank, sides that are equal (as text, as tokens, or after truncation), and
        a prompt that the template refuses. Raises `OperandError` as `render` does.
        """
        texts = [example.chosen]
        if self.pairs:
            assert example.rejected is not None
            texts.append(example.rejected)
        if not all(text.strip() for text in texts):
            raise SkippedRow("an answer is empty")
        if self.pairs and example.chosen == example.rejected:
            raise SkippedRow("the two answers are equal")
        try:
            prompt = render(self.operand, self.tokenizer, example.whole_prompt, place=example.place)
        except PromptError as error:
            raise RefusedPrompt(error.message) from None
        answers = [encode_continuation(self.tokenizer, text) for text in texts]
        if not all(answers):
            raise SkippedRow("an answer has no tokens")
        kept, answers, cuts = truncated(prompt, answers, self.end_id, self.limits)
        if self.pairs and answers[0] == answers[1]:
            how = "are equal after truncation" if ANSWER_CUT in cuts else "have equal tokens"
            raise SkippedRow(f"the two answers {how}")
        digest = hashlib.blake2b(array("q", prompt).tobytes(), digest_size=16).digest()
        return Encoded(EncodedPair(kept, answers[0], answers[1] if self.pairs else None), cuts, digest)


def truncated(
    prompt: list[int], answers: list[list[int]], end_id: int | None, limits: Limits
) -> tuple[list[int], list[list[int]], tuple[str, ...]]:
    """The prompt and the answers with their end token within the limits, and what was cut.

    The prompt gives way first, from its beginning: to `limits.prompt`, then until the longest answer fits,
    but it keeps half of `limits.length` if it has as many. What is too long still loses the end of its
    answers. So each side keeps a token at least, where `limits.length` is 2 or more.
    """
    end = [] if end_id is None else [end_id]
    longest = max(map(len, answers)) + len(end)
    keep = len(prompt) if limits.prompt is None else min(len(prompt), limits.prompt)
    room = longest
    if limits.length is not None:
        keep = max(min(keep, limits.length - longest), min(keep, limits.length // 2))
        room = limits.length - keep
    whole = [[*answer, *end] if len(answer) + len(end) <= room else answer[:room] for answer in answers]
    cuts = [PROMPT_CUT] * (keep < len(prompt)) + [ANSWER_CUT] * (longest > room)
    return prompt[len(prompt) - keep :], whole, tuple(cuts)

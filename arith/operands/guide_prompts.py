"""What a guide's model reads: the frame that a prompt puts around the generated text."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arith.operands.guide_operand import GuideOperand
from arith.operands.llm import FIELD
from arith.operands.prompts import Prompt, fill, laid_out, messages_of, prompt_fields, single_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TEXT = "{text}"
_OWN_TEMPLATE = 'give the reward model a `template` with {prompt} and {text}, such as "{prompt}\\n{text}"'


@dataclass(frozen=True)
class Frame:
    """The generated text stands between each two of `pieces`.

    `special`: the tokenizer adds its special tokens around it; a chat template has written them already.
    """

    pieces: tuple[str, ...]
    special: bool

    def around(self, text: str) -> str:
        return text.join(self.pieces)


def frame(operand: GuideOperand, tokenizer: "PreTrainedTokenizerBase", prompt: Prompt, place: str) -> Frame:
    """The frame of `prompt` in the operand's format; `tokenizer` is that of the operand's model.

    Raises `PromptError`, led by `place`, for a field that is missing, or is a chat where text belongs, and
    `OperandError` where the chat template of a tokenizer is needed that has none.
    """
    where = f"{place}: "
    fields = prompt_fields(prompt, where)
    if operand.template is None:
        messages = messages_of(fields["prompt"], None, where)
        chat = laid_out(operand.model, tokenizer, messages, where, go_on=True, fix=_OWN_TEMPLATE)
        return Frame((chat, ""), special=False)
    if "prompt" in FIELD.findall(operand.template):
        fields = {**fields, "prompt": single_text(fields["prompt"], where)}
    pieces = (fill(part, fields, "the template", where) for part in operand.template.split(_TEXT))
    return Frame(tuple(pieces), special=True)


def prompt_text(prompt: Prompt, place: str) -> str:
    """The prompt's own text. Raises `PromptError`, led by `place`, for a chat of several messages."""
    where = f"{place}: "
    return single_text(prompt_fields(prompt, where)["prompt"], where)

"""Prompts as an operand's model reads them: templates filled in, chats laid out, text made into token ids."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from arith.errors import OperandError, PromptError
from arith.operands.llm import FIELD, LLM, RAW

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, str]
Prompt = str | Sequence[Message] | Mapping[str, object]

_ROLES = ("system", "user", "assistant")
_REPLY = "arith-reply-marker"
_OWN_TEMPLATE = (
    'give the operand a `template` with {prompt} (and {system}), such as "User: {prompt}\\nAssistant:", '
    "or `template: raw`"
)


def render(
    operand: LLM, tokenizer: "PreTrainedTokenizerBase", prompt: Prompt, *, place: str | None = None
) -> list[int]:
    """Token ids of `prompt` in the operand's format, up to where the answer begins.

    `prompt` is text, a list of chat messages, or a mapping whose `prompt` is one of these and whose further
    text fields `template` and `system` may use as `{field}`. Raises `PromptError`, led by `place` (a file and
    line, say), for a field that is missing or isn't text and for malformed messages, and `OperandError` when
    the tokenizer has no chat template and the operand names none.
    """
    where = "" if place is None else f"{place}: "
    fields = prompt_fields(prompt, where)
    system = None if operand.system is None else fill(operand.system, fields, "`system`", where)
    if operand.template is None:
        return _chat_ids(operand, tokenizer, messages_of(fields["prompt"], system, where), where)
    text = single_text(fields["prompt"], where, raw=operand.template == RAW)
    if operand.template != RAW:
        own = {"prompt": text} if system is None else {"prompt": text, "system": system}
        text = fill(operand.template, {**fields, **own}, "the template", where)
    return _checked(_single_bos(tokenizer, _encode(tokenizer, text, special=True)), where)


def encode_continuation(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Token ids of text that goes on from a prompt: encoded by itself, unstripped, without special tokens."""
    return _encode(tokenizer, text, special=False)


def turn_end(operand: LLM, tokenizer: "PreTrainedTokenizerBase", end_ids: Iterable[int]) -> int:
    """The token that closes the assistant's turn: the one the chat template writes there, else the EOS.

    `end_ids` are the model's end-of-sequence ids. Raises `OperandError` where there is no such token.
    """
    end_ids = frozenset(end_ids)
    if operand.template is None:
        system = [] if operand.system is None else [{"role": "system", "content": operand.system}]
        turns = [*system, {"role": "user", "content": "?"}, {"role": "assistant", "content": _REPLY}]
        chat = laid_out(operand.model, tokenizer, turns, "", go_on=False, fix=_OWN_TEMPLATE)
        _, written, closing = chat.rpartition(_REPLY)
        special = end_ids.union(special_ids(tokenizer))
        for token in _encode(tokenizer, closing, special=False) if written else []:
            if token in special:
                return token
    eos = tokenizer.eos_token_id
    if isinstance(eos, int):
        return eos
    if not end_ids:
        raise OperandError(f"{operand.model} has no end-of-sequence token, so a turn has no end")
    return min(end_ids)


def prompt_fields(prompt: object, where: str) -> Mapping[str, object]:
    """The fields of a prompt, `prompt` among them. Raises `PromptError`, led by `where`."""
    if isinstance(prompt, str) or (isinstance(prompt, Sequence) and not isinstance(prompt, bytes)):
        return {"prompt": prompt}
    if not isinstance(prompt, Mapping):
        raise PromptError(f"{where}a prompt is text, a list of messages or an object, not {prompt!r}")
    if "prompt" not in prompt:
        hint = f"its fields are {', '.join(map(str, prompt))}" if prompt else None
        raise PromptError(f"{where}the prompt object has no field `prompt`", hint)
    return prompt


def fill(pattern: str, fields: Mapping[str, object], what: str, where: str) -> str:
    """`pattern` with every `{name}` replaced, in one pass: braces inside the values stay as they are.

    Raises `PromptError`, led by `where` and naming the pattern as `what`, for a field that is missing or no
    text.
    """
    pieces = []
    end = 0
    for match in FIELD.finditer(pattern):
        name = match.group(1)
        if name not in fields:
            raise PromptError(
                f"{where}{what} uses {{{name}}}, but this prompt has no field `{name}`",
                f"its fields are {', '.join(map(str, fields))}",
            )
        value = fields[name]
        if not isinstance(value, str):
            raise PromptError(f"{where}{what} uses {{{name}}}, but the field `{name}` isn't text: {value!r}")
        pieces += [pattern[end : match.start()], value]
        end = match.end()
    return "".join([*pieces, pattern[end:]])


def messages_of(content: object, system: str | None, where: str) -> list[dict[str, str]]:
    """The chat to lay out; the operand's system prompt takes the place of one that the chat brings along."""
    if isinstance(content, str):
        messages = [{"role": "user", "content": content}]
    else:
        messages = _checked_messages(content, where)
    if system is None:
        return messages
    if messages[0]["role"] == "system":
        messages = messages[1:]
    return [{"role": "system", "content": system}, *messages]


def _checked_messages(content: object, where: str) -> list[dict[str, str]]:
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise PromptError(f"{where}`prompt` must be text or a list of messages, not {content!r}")
    if not content:
        raise PromptError(f"{where}the list of messages is empty")
    for number, message in enumerate(content, start=1):
        if not isinstance(message, Mapping):
            raise PromptError(f"{where}message {number} isn't an object with role and content: {message!r}")
        if message.get("role") not in _ROLES:
            raise PromptError(
                f"{where}message {number} has the role {message.get('role')!r}",
                f"a role is {', '.join(_ROLES)}",
            )
        if not isinstance(message.get("content"), str):
            raise PromptError(f"{where}message {number} needs `content` that is text")
    if all(message["role"] == "system" for message in content):
        raise PromptError(f"{where}the messages hold no turn of the user or the assistant")
    return [dict(message) for message in content]


def single_text(content: object, where: str, *, raw: bool = False) -> str:
    """The text of a prompt that is no chat, or a chat of one user message. `PromptError` for others."""
    if isinstance(content, str):
        return content
    messages = _checked_messages(content, where)
    if len(messages) == 1 and messages[0]["role"] == "user":
        return messages[0]["content"]
    kind = "`raw`" if raw else "a template written as text"
    raise PromptError(
        f"{where}{kind} has room for one user message, not for a chat of {len(messages)} messages",
        "leave `template` out to use the tokenizer's chat template, or write the turns into the prompt",
    )


def _chat_ids(
    operand: LLM, tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, str]], where: str
) -> list[int]:
    text = laid_out(operand.model, tokenizer, messages, where, go_on=True, fix=_OWN_TEMPLATE)
    # The template has written the special tokens, a BOS included.
    return _checked(_single_bos(tokenizer, _encode(tokenizer, text, special=False)), where)


def laid_out(
    model: str,
    tokenizer: "PreTrainedTokenizerBase",
    messages: list[dict[str, str]],
    where: str,
    *,
    go_on: bool,
    fix: str,
) -> str:
    """The chat as text; with `go_on` open for an answer, or for the rest of a last assistant message.

    Raises `OperandError` where the tokenizer of `model` has no chat template and `PromptError` where that
    refuses the messages; `fix` says what to do then.
    """
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise OperandError(f"the tokenizer of {model} has no chat template", fix)
    unfinished = messages[-1]["role"] == "assistant"
    try:
        text = tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=go_on and not unfinished,
            continue_final_message=go_on and unfinished,
        )
    except (TemplateError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        roles = ", ".join(message["role"] for message in messages)
        raise PromptError(
            f"{where}the chat template of {model} refuses the messages ({roles}): {reason}", fix
        ) from None
    assert isinstance(text, str)
    return text


def special_ids(tokenizer: "PreTrainedTokenizerBase") -> set[int]:
    """The ids of special tokens, which decoding leaves out when asked to."""
    added = tokenizer.added_tokens_decoder
    return {index for index, token in added.items() if token.special}.union(tokenizer.all_special_ids)


def _encode(tokenizer: "PreTrainedTokenizerBase", text: str, *, special: bool) -> list[int]:
    ids = tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
    return [int(token) for token in ids]


def _single_bos(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> list[int]:
    """One BOS where the text wrote one and the tokenizer put another before it."""
    bos = tokenizer.bos_token_id
    while bos is not None and ids[:2] == [bos, bos]:
        ids = ids[1:]
    return ids


def _checked(ids: list[int], where: str) -> list[int]:
    if not ids:
        raise PromptError(f"{where}the prompt is empty: the model would have no token to start from")
    return ids

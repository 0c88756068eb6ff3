"""One reply of a chat endpoint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True)
class Reply:
    """What the endpoint said.

    text: None where it declined to answer.
    input_tokens, output_tokens: as the endpoint counts them; None where it doesn't say.
    """

    text: str | None
    input_tokens: int | None
    output_tokens: int | None

    def as_json(self) -> dict[str, object]:
        """The reply as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, object]) -> Self:
        """The reply that `as_json` gave. Raises `KeyError` or `TypeError` for anything else."""
        text = row["text"]
        if not (text is None or isinstance(text, str)):
            raise TypeError("a reply is text")
        return cls(text, _count(row["input_tokens"]), _count(row["output_tokens"]))


def _count(value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise TypeError("a number of tokens is a whole number")


def reply_in(content: object) -> Reply | None:
    """The reply in the body of a chat completion; None where there is none.

    Source: OpenAI, API reference, "Chat completion object".
    """
    try:
        choice = content["choices"][0]  # type: ignore[index]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
        usage = content.get("usage") or {}  # type: ignore[attr-defined]
        tokens = [_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")]
    except (LookupError, TypeError, AttributeError):
        return None
    declined = refusal is not None or choice.get("finish_reason") == "content_filter"
    if text is None and choice.get("finish_reason") == "length":
        text = ""  # all its tokens went into thoughts that aren't shown
    if not declined and not isinstance(text, str):
        return None
    if declined:
        return Reply(None, *tokens)
    # JSON can hold halves of characters, which no file can.
    return Reply(text.encode("utf-8", "replace").decode("utf-8"), *tokens)

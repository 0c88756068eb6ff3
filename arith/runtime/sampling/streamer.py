"""Streamers of transformers: objects that are told a row's tokens as they come."""

from typing import Any

from arith.errors import OptionError


def check_streamer(streamer: Any, row_count: int) -> None:
    """Raises `OptionError` for what is no streamer, and for more rows than the one that it takes."""
    if not all(callable(getattr(streamer, name, None)) for name in ("put", "end")):
        raise OptionError(
            f"`streamer` has to be an object with `put` and `end`, not {streamer!r}",
            "transformers' TextStreamer, say",
        )
    if row_count > 1:
        hint = "give one prompt and num_return_sequences 1, or use `stream`"
        raise OptionError("a streamer takes one row", hint)

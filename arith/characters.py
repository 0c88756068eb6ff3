"""Text that UTF-8 and tokenizers lack."""


def stray_surrogate(text: str) -> str | None:
    """The first code point of `text` that stands for no character, as an escape (`\\ud800`), or None.

    Python reads a byte that isn't UTF-8, on the command line say, as one of `\\udc80` to `\\udcff`.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"\\u{ord(text[error.start]):x}"
    return None

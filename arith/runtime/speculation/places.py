"""Where in a text its last tokens stood before."""

from collections.abc import Sequence


class Places:
    """The last place behind each run of up to `longest` tokens of a text that grows: finding one takes no
    longer in a long text."""

    def __init__(self, longest: int):
        self._longest = longest
        self._behind: dict[tuple[int, ...], int] = {}
        self._read = 0
        self._version = 0

    def last(self, text: Sequence[int], version: int = 0) -> tuple[int, int]:
        """Of the runs at the end of the text that stood in it before the longest one: its length, and the
        last place behind it. Without one 0, and the place behind the text.

        version: another one where tokens that the text had are others now.
        """
        if version != self._version:
            self._behind.clear()
            self._read, self._version = 0, version
        for end in range(self._read + 1, len(text)):
            for length in range(1, min(self._longest, end) + 1):
                self._behind[tuple(text[end - length : end])] = end
        self._read = max(self._read, len(text) - 1)
        for length in range(min(self._longest, len(text)), 0, -1):
            behind = self._behind.get(tuple(text[len(text) - length :]))
            if behind is not None:
                return length, behind
        return 0, len(text)

"""Where the last tokens of a text stood before: as a search through all of it finds."""

import random

from arith.runtime.speculation.places import Places


def searched(text: list[int], longest: int) -> tuple[int, int]:
    """The longest run at the end that stood before, and the last place behind it."""
    for length in range(longest, 0, -1):
        for end in range(len(text) - 1, length - 1, -1):
            if text[end - length : end] == text[len(text) - length :]:
                return length, end
    return 0, len(text)


def test_a_text_that_grows_by_any_steps_is_searched_as_a_whole() -> None:
    draw = random.Random(3)
    for _ in range(60):
        places = Places(3)
        text: list[int] = []
        while len(text) < 40:
            text += [draw.randrange(3) for _ in range(draw.randrange(4))]
            assert places.last(text) == searched(text, 3), text


def test_a_text_whose_tokens_were_taken_back_is_read_anew() -> None:
    places = Places(2)
    assert places.last([1, 2, 1, 2]) == (2, 2)
    assert places.last([1, 3, 1, 2, 5], version=1) == (0, 5)
    assert places.last([1, 3, 1, 2, 5, 1], version=1) == (1, 3)

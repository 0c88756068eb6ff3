"""Pairs within limits counted in tokens: the prompt gives way first and keeps its end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arith.errors import SpecError
from trainers.data.encoding import ANSWER_CUT, PROMPT_CUT, Limits, truncated

END = 0
PROMPT = [11, 12, 13, 14, 15, 16]
LONG, SHORT = [21, 22, 23, 24], [31, 32]


@pytest.mark.parametrize(
    ("limits", "prompt", "chosen", "rejected", "cuts"),
    [
        # 6 tokens of the prompt and 4 + 1 of the longer answer are 11 together.
        (Limits(None, None), PROMPT, [*LONG, END], [*SHORT, END], ()),
        (Limits(11, 6), PROMPT, [*LONG, END], [*SHORT, END], ()),
        (Limits(10, None), PROMPT[1:], [*LONG, END], [*SHORT, END], (PROMPT_CUT,)),
        (Limits(None, 2), PROMPT[4:], [*LONG, END], [*SHORT, END], (PROMPT_CUT,)),
        (Limits(11, 2), PROMPT[4:], [*LONG, END], [*SHORT, END], (PROMPT_CUT,)),
        (Limits(9, None), PROMPT[2:], [*LONG, END], [*SHORT, END], (PROMPT_CUT,)),
        # Half of 8 stays for the prompt: the longer answer has its 4 tokens, but no end.
        (Limits(8, None), PROMPT[2:], LONG, [*SHORT, END], (PROMPT_CUT, ANSWER_CUT)),
        (Limits(5, None), PROMPT[4:], LONG[:3], [*SHORT, END], (PROMPT_CUT, ANSWER_CUT)),
        (Limits(4, None), PROMPT[4:], LONG[:2], SHORT, (PROMPT_CUT, ANSWER_CUT)),
        (Limits(2, None), PROMPT[5:], LONG[:1], SHORT[:1], (PROMPT_CUT, ANSWER_CUT)),
        # A prompt of less than half gives nothing away, and leaves its room to the answers.
        (Limits(6, 2), PROMPT[4:], LONG, [*SHORT, END], (PROMPT_CUT, ANSWER_CUT)),
    ],
)
def test_what_is_cut_first(
    limits: Limits, prompt: list[int], chosen: list[int], rejected: list[int], cuts: tuple[str, ...]
) -> None:
    assert truncated(PROMPT, [LONG, SHORT], END, limits) == (prompt, [chosen, rejected], cuts)


def test_without_an_end_token_there_is_room_for_one_more() -> None:
    assert truncated(PROMPT, [LONG, SHORT], None, Limits(10, None)) == (PROMPT, [LONG, SHORT], ())
    assert truncated(PROMPT, [SHORT], None, Limits(7, None)) == (PROMPT[1:], [SHORT], (PROMPT_CUT,))


ids = st.lists(st.integers(1, 9), min_size=1, max_size=20)


@given(ids, st.lists(ids, min_size=1, max_size=2), st.sampled_from([None, END]), st.integers(2, 40), ids)
def test_no_row_exceeds_the_limits_and_nothing_becomes_empty(
    prompt: list[int], answers: list[list[int]], end_id: int | None, length: int, prompt_limit: list[int]
) -> None:
    limits = Limits(length, len(prompt_limit))
    kept, cut_answers, cuts = truncated(prompt, answers, end_id, limits)
    ended = [[*answer, *([] if end_id is None else [end_id])] for answer in answers]
    assert kept and kept == prompt[-len(kept) :]
    assert len(kept) <= len(prompt_limit)
    assert len(kept) + max(map(len, cut_answers)) <= length
    for cut, whole in zip(cut_answers, ended, strict=True):
        assert cut and cut == whole[: len(cut)]
    # The prompt gives way first: an answer is cut only where the prompt has no more than its half.
    if cut_answers != ended:
        assert ANSWER_CUT in cuts
        assert len(kept) <= max(1, length // 2)
        assert len(kept) + max(map(len, cut_answers)) == length
    else:
        assert ANSWER_CUT not in cuts
        # It gives way no further than it has to.
        fits = len(kept) + 1 + max(map(len, ended)) > length
        assert fits or len(kept) == min(len(prompt), len(prompt_limit))
    assert (PROMPT_CUT in cuts) == (kept != prompt)


def test_limits_default_to_the_context_window_and_do_not_exceed_it() -> None:
    assert Limits.of(None, None, 512) == Limits(512, 512)
    assert Limits.of(100, 50, 512) == Limits(100, 50)
    assert Limits.of(512, 512, 512) == Limits(512, 512)
    assert Limits.of(4096, None, None) == Limits(4096, None)
    with pytest.raises(SpecError, match=r"`data.max_length` is 513, but the model's context window has 512"):
        Limits.of(513, None, 512)
    with pytest.raises(SpecError, match=r"`data.max_prompt_length` is 600"):
        Limits.of(None, 600, 512)

"""What guards reject, and where a row then goes: greedy rows that prefer given characters, worked out by
hand."""

import re
import string
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LogitsProcessor

from arith import Engine, OptionError
from arith.runtime.result import Result
from arith.runtime.rewinding.guard import Expression, guards_of
from arith.runtime.rewinding.rewind import MOST_REWINDS
from tests.runtime.reference import raw

END = 257
PROMPT_LENGTH = 2  # of `on`: a BOS and one merged token


class Preferring(LogitsProcessor):
    """Leaves a row at each step these characters (`.` the end of the text) or tokens, the first preferred."""

    def __init__(self, steps: Sequence[str | Sequence[int]]):
        self.steps = [
            [END if one == "." else ord(one) if isinstance(one, str) else one for one in step]
            for step in steps
        ]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = self.steps[min(input_ids.shape[1] - PROMPT_LENGTH, len(self.steps) - 1)]
        ranked = torch.full_like(scores, -torch.inf)
        ranked[0, step] = -torch.arange(len(step), dtype=scores.dtype)
        return ranked


@pytest.fixture(scope="module")
def engine(tiny_llama: str) -> Engine:
    return Engine(raw(tiny_llama))


def written(engine: Engine, steps: Sequence[Any], forbid: Any, **options: Any) -> Result:
    """What a greedy row writes that prefers these characters."""
    options = {"max_new_tokens": len(steps), "temperature": 0, **options}
    return engine.generate("on", forbid=forbid, logits_processor=[Preferring(steps)], **options)[0]


@pytest.mark.parametrize(
    ("forbid", "steps", "text"),
    [
        # A word that has ended is rejected, at its first token.
        (["cat"], ["cd", "a", "t", " ", "!"], "dat !"),
        (["cat"], ["x", " ", "cd", "a", "t", " ", "!"], "x dat !"),
        # Not inside longer words; but next to whatever isn't a letter, digit or underscore.
        (["cat"], ["cd", "a", "t", "s", "!"], "cats!"),
        (["cat"], ["x", "cd", "a", "t", " "], "xcat "),
        (["cat"], ["_", "cd", "a", "t", "_", " "], "_cat_ "),
        (["cat"], ["(", "cd", "a", "t", ")"], "(dat)"),
        (["cat"], ["cd", "a", "t", "'", "s"], "dat's"),
        # At the end of the row, whatever ends it.
        (["cat"], ["cd", "a", "t"], "dat"),
        (["cat"], ["cd", "a", "t", "."], "dat"),
        # Capitals make no difference.
        (["cAt"], ["CD", "a", "T", " "], "DaT "),
        (["ÉT"], [[0xC3, 97], [0xA9], "t", " "], "a\ufffdt "),
        # The whole rest of the text goes, and what follows is written anew.
        (["cat"], ["cd", "a", "t", " ", "cd", "a", "t", " "], "dat dat "),
        # Of several spans at once it is the one that goes back furthest.
        (["b", "a b"], ["xy", "ac", " ", "bd", " "], "xa d "),
        (["a b", "b"], [" ", "ac", " ", "bd", "!"], " c d!"),
        (["a b"], [" ", "ac", " ", "bd", "!"], " c b!"),
        # A word whose edge is no letter has no border there.
        (["c+"], ["cd", "+", "+", "x"], "d++x"),
        (["..."], ["x", "!", [46, 33], [46], [46], "y"], "x!!..y"),
        # Expressions: a match counts when a character stands behind it, and is as long as it can be then.
        (["/da+mn/"], ["db", "a", "a", "m", "n", "s"], "baamns"),
        (["/[0-9]{2}/"], ["1x", "2y", "!", "3x", "4y"], "x2!x4"),
        (["/a.*z/"], ["ab", "x", "z", "!", "!"], "bxz!!"),
        ([re.compile("^x", re.MULTILINE)], ["a", "\n", "xy", "!"], "a\ny!"),
        ([re.compile("a.c", re.DOTALL)], ["ab", "\n", "c", "!"], "b\nc!"),
        (["/a(?!b)/"], ["a", "b", "ac", "d"], "abcd"),
        (["/a(?!b)/"], ["ad", "c", "!"], "dc!"),
        (["/x$/"], ["x", "!", "xy"], "x!y"),
    ],
)
def test_what_a_row_writes_in_place_of_what_is_forbidden(
    forbid: list[Any], steps: list[Any], text: str, engine: Engine
) -> None:
    found = written(engine, steps, forbid)
    assert found.text == text
    assert found.finish_reason == ("stop" if steps[-1] == "." else "length")
    assert len(found.logprobs["formula"]) == len(found.token_ids)


def test_a_token_is_banned_at_its_step_until_the_row_goes_back_further(engine: Engine) -> None:
    """`ab` and then `cb` are taken back, so `b` is banned behind `c`; behind `d` it is free again."""
    found = written(engine, ["cd", "bx", "!"], ["/cb/", "/cx/"])
    assert found.text == "db!"
    engine.stats.reset()
    assert written(engine, ["abc", "x", "!"], ["ax", "bx"]).text == "cx!"
    assert (engine.stats.rewinds, engine.stats.rewinding.tokens) == (2, 6)


def test_a_row_without_a_token_left_takes_back_one_more(engine: Engine) -> None:
    assert written(engine, ["xy", "cd", "!"], ["/xc/", "/xd/"]).text == "yc!"
    found = written(
        engine, ["x", " ", "pq", "c", "!"], [lambda text, ended: 3 if text[2:4] == "pc" else None]
    )
    assert found.text == "x qc!"


def test_a_row_that_can_not_go_on_ends_before_what_is_forbidden(engine: Engine) -> None:
    found = written(engine, ["c", "a", "t", " "], ["cat"])
    assert (found.text, found.token_ids, found.finish_reason) == ("", [], "forbidden")
    assert all(values == [] for values in found.logprobs.values())
    found = written(engine, ["h", "i", " ", "c", "a", "t", " "], ["cat"])
    assert (found.text, found.finish_reason) == ("hi", "forbidden"), "one token back, which was the last open"


def test_going_back_has_an_end(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.stats.reset()
    found = written(engine, [string.printable] * 4, lambda text, ended: 0)
    assert (found.text, found.finish_reason) == ("", "forbidden")
    assert engine.stats.rewinds == MOST_REWINDS * 4
    # What is left then doesn't end in what is forbidden either: `do` has to go, which `dogs` did not.
    monkeypatch.setattr("arith.runtime.rewinding.rewind.MOST_REWINDS", 0)
    found = written(engine, ["x", " ", "d", "o", "g", "s", "!"], ["do", "/gs/"])
    assert (found.text, found.finish_reason) == ("x d", "forbidden")


def test_words_across_tokens_and_inside_them(engine: Engine) -> None:
    """`in` is one token (264); a word that begins inside a token takes it back whole."""
    merged = engine.tokenizer.encode("in", add_special_tokens=False)
    assert len(merged) == 1 and merged[0] > 255
    assert written(engine, [[*merged, 111], "k", " ", "!"], ["ink"]).text == "ok !"
    assert written(engine, [" ", [*merged, 111], "n", " "], ["inn", "on"]).finish_reason == "forbidden"
    the = engine.tokenizer.encode(" the", add_special_tokens=False)
    assert len(the) == 1
    assert written(engine, ["x", [*the, 33], " ", "!"], ["the"]).text == "x! !"


def test_characters_of_several_tokens_are_taken_back_whole(engine: Engine) -> None:
    """`é` is two tokens; the word ends only where the next character is whole, and isn't a letter."""
    assert written(engine, [[0xC3, 120], [0xA9], " "], ["é"]).text.startswith("x")
    assert written(engine, ["ax", [0xC3], [0xA9], " "], ["a"]).text == "aé "
    assert written(engine, ["ax", [0xC3], "!", "!"], ["a"]).text == "x\ufffd!!"


def test_what_is_taken_back_ends_no_row(engine: Engine) -> None:
    found = written(engine, ["cd", "a", "t", "!", "!"], ["cat"], stop_strings=["at"])
    assert (found.text, found.finish_reason) == ("dat", "stop_string")
    found = written(engine, ["cd", "a", "t", " ", "x", "!"], ["cat"], stop_strings=["cat", "t x"])
    assert (found.text, found.finish_reason) == ("dat x", "stop_string")
    found = written(engine, ["cd", "a", "t", " ", "x", "!"], ["cat"], stop_strings=[" d"])
    assert (found.text, found.finish_reason) == ("dat x!", "length")


def test_a_stream_shows_nothing_from_where_a_row_may_go_back_without_a_token_left(engine: Engine) -> None:
    """Behind `!` the text is clean, but `c` leads nowhere there; `d` in its place begins the other word."""
    steps = ["x", " ", "!de", "c", " ", "!"]
    options: dict[str, Any] = {"max_new_tokens": len(steps), "temperature": 0, "forbid": ["c", "dc"]}
    pieces = list(engine.stream("on", logits_processor=[Preferring(steps)], **options))
    assert [piece.text for piece in pieces if piece.text] == ["x", " ", "e", "c", " !"]
    assert pieces[-1].result is not None and pieces[-1].result.text == "x ec !"


def test_a_function_is_told_the_text_and_whether_it_has_ended(engine: Engine) -> None:
    told: list[tuple[str, bool]] = []

    def guard(text: str, ended: bool) -> int | None:
        told.append((text, ended))
        return 1 if text.startswith("ab") else None

    assert written(engine, ["a", "bc", "."], [guard]).text == "ac"
    assert told == [("a", False), ("ab", False), ("ac", False), ("ac", True)]

    def not_too_short(text: str, ended: bool) -> int | None:
        return len(text) if ended and len(text) < 3 else None

    found = written(engine, [".a", ".b", ".c", ".d"], [not_too_short])
    assert (found.text, found.finish_reason) == ("abc", "stop")


@pytest.mark.parametrize("given", [True, 7, -1, 1, "0", 0.0])
def test_a_function_that_answers_otherwise_is_named(given: Any, engine: Engine) -> None:
    def guard(text: str, ended: bool) -> Any:
        return given

    with pytest.raises(OptionError, match=r"forbid: guard returned .* for a text of 1 characters"):
        written(engine, ["a", "b"], [guard])
    assert written(engine, ["a", "b"], []).text == "ab"


@pytest.mark.parametrize(
    ("forbid", "message"),
    [
        ([" "], "`forbid` = ' ': is empty"),
        ([""], "is empty"),
        (["/water"], "doesn't end like one"),
        (["/water/i"], "no letters stand behind"),
        (["//"], "doesn't end like one"),
        (["/(a/"], "is no regular expression: missing )"),
        (["/a*/"], "matches where there is no text"),
        ([re.compile("|a")], "matches where there is no text"),
        ([re.compile(b"a")], "is a pattern over bytes"),
        ([3], "`forbid` = 3: must be a word, /a regular expression/, or in Python a pattern or function"),
        ([str], "must be a word"),
        (3, "`forbid` = 3: must be a list"),
        ({"a": 1}, "must be a list"),
    ],
)
def test_what_can_not_be_forbidden_is_refused(forbid: Any, message: str, engine: Engine) -> None:
    with pytest.raises(OptionError) as refused:
        engine.generate("on", forbid=forbid)
    assert message in str(refused.value)


def test_one_guard_needs_no_list(engine: Engine) -> None:
    for one in ("cat", re.compile("cat"), lambda text, ended: 0 if "cat" in text else None):
        assert written(engine, ["cd", "a", "t", " "], one).text == "dat "


PATTERNS = [
    r"\bcat\b", r"ca\w+", r"a.*b", r"a\b.", r"a\Bb", r"(?<=a)b", r"a(?!b)", r"a(?=.b)", r"^b", r"b$", r"a+?b",
    r"[^a]\b", r"(a)\1", r"[\b]|a b",
]  # fmt: skip


@pytest.mark.parametrize("entry", [*(f"/{pattern}/" for pattern in PATTERNS), "a", "ab", "a b", "ab b"])
def test_nothing_is_rejected_behind_which_all_was_clean(entry: str) -> None:
    """Over all texts of seven characters: a span never begins before a place where none was open."""
    (guard,) = guards_of([entry])
    texts = [""]
    clean = {"": 0}
    for _ in range(7):
        following = []
        for before in texts:
            for character in "ab ":
                text = before + character
                for ended in (False, True):
                    begin = guard.rejects(text, len(before), ended)
                    assert begin is None or begin >= clean[before], (text, ended)
                if guard.rejects(text, len(before), False) is None:
                    clean[text] = clean[before] if guard.is_open(text, clean[before]) else len(text)
                    following.append(text)
        texts = following
    if "$" not in entry:
        assert any(clean[text] > 3 for text in texts), "what is never clean is never shown"


@pytest.mark.parametrize("entry", [r"/^(?!(yes|no)$).+/", r"/^(?!(yes|no)\Z).+/", r"/(?r)yes and/"])
def test_what_the_end_of_a_text_decides_is_not_decided_before(engine: Engine, entry: str) -> None:
    """Nothing is shown of a text that is rejected from its beginning when it goes on."""
    options: dict[str, Any] = {"max_new_tokens": 12, "forbid": [entry], "temperature": 0}
    going_on = Preferring([*"yes and more", "."])
    [*shown, last] = engine.stream("on", logits_processor=[going_on], **options)
    assert not any(piece.text for piece in shown)
    assert last.result is not None and (last.result.finish_reason, last.result.text) == ("forbidden", "")
    if "(?r)" not in entry:
        ended = engine.generate("on", logits_processor=[Preferring([*"yes", "."])], **options)[0]
        assert (ended.finish_reason, ended.text) == ("stop", "yes")


def test_guards_that_let_nothing_stand_before_the_end_are_not_asked_whether_they_do(engine: Engine) -> None:
    def judge(text: str, ended: bool) -> int | None:
        return None

    asked: list[int] = []

    def is_open(_guard: Expression, _text: str, start: int) -> bool:
        asked.append(start)
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Expression, "is_open", is_open)
        for entry in (judge, r"/a(?!b$)/"):
            engine.generate("on", max_new_tokens=5, forbid=[r"/zq\w*/", entry])
        assert not asked
        engine.generate("on", max_new_tokens=5, forbid=[r"/zq\w*/"])
    assert asked

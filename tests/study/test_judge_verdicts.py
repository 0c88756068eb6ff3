"""What a judge is asked, and how its words are read."""

import itertools
from pathlib import Path

import pytest

from arith.errors import SpecError
from arith.study.judging.criteria import HARMS, criterion_template, dialogue, filled, read_template
from arith.study.judging.verdict import Judgement, Ratings, ratings_in


@pytest.mark.parametrize(
    ("reply", "ratings"),
    [
        ("B is clearer.\nRatings: A=3, B=7.5", (3, 7.5)),
        ("**Ratings: A=3, B=7**", (3, 7)),
        ("**Ratings:** A = `10` , B = `1`", (10, 1)),
        ("A: 4/10 and B: 6 / 10", (4, 6)),
        ("Ratings: A=3\nB=7", (3, 7)),
        ("At first A=9, B=9. But no.\nRatings: A=2, B=3.", (2, 3)),
        ("<think>Ratings: A=9, B=1</think>\nRatings: A=1, B=9", (1, 9)),
        ("8 3\nThe first one is better.", (8, 3)),
        ("Scores follow.\n7.5, 6\nSince 1 2 3.", (7.5, 6)),
        ("7/10 5/10", (7, 5)),
        ("8\t8", (8, 8)),
        ("Answer A: 7\nAnswer B: 4", (7, 4)),
        ("A=7/10 (good), B=4/10 (short)", (7, 4)),
        ("ratings: a=7, b=4", (7, 4)),
        ("A=7, B=4, since 3 of it is wrong", (7, 4)),
        ("A=8, B=3-4", None),
        ("At first A=9, B=9. But no: A=8 – 9, B=3.", None),
        ("A=7, B=1,5", None),
        ("A=7, B=4/5", None),
        ("Ratings: A=0, B=7", None),
        ("Ratings: A=11, B=7", None),
        ("Ratings: A=7, B=100", None),
        ("Ratings: A=7", None),
        ("Both are fine.", None),
        ("There are 2 answers, 1 good.", None),
        ("", None),
        ("GAMMA=7, B=3", None),
    ],
)
def test_ratings_are_read_in_the_forms_that_are_asked_for(
    reply: str, ratings: tuple[float, float] | None
) -> None:
    assert ratings_in(reply) == (None if ratings is None else Ratings(*ratings))


@pytest.mark.parametrize("first", [1.0, 4.0, 10.0])
def test_an_outcome_seen_from_the_other_side_is_its_opposite(first: float) -> None:
    opposite = {"win": "lose", "lose": "win", "tie": "tie"}
    for second in (1.0, 4.0, 10.0):
        one = Judgement((Ratings(first, second),), ("",))
        other = Judgement((Ratings(first, second).swapped,), ("",))
        assert other.outcome == opposite[one.outcome]


def test_orders_are_averaged_and_both_are_needed() -> None:
    """In one order 8 to 7 and in the other 5 to 6 (from the same side): 6.5 to 6.5, a tie."""
    assert Judgement((Ratings(8, 7), Ratings(5, 6)), ("", "")).outcome == "tie"
    both = Judgement((Ratings(8, 7), Ratings(6, 6)), ("", ""))
    assert both.outcome == "win" and both.mean == Ratings(7.0, 6.5)
    half = Judgement((Ratings(8, 7), None), ("", None))
    assert half.outcome == "undetermined" and half.mean is None
    assert half.details() == {"outcome": "undetermined", "ratings": [[8, 7], None], "replies": ["", None]}


def test_the_criteria_differ_and_each_asks_for_ratings_that_can_be_read() -> None:
    texts = {name: criterion_template(name) for name in ("overall", "helpful", "harmless")}
    assert len(set(texts.values())) == 3 and len(set(HARMS)) == 14
    assert all(harm in texts["harmless"] and harm not in texts["helpful"] for harm in HARMS)
    for text in texts.values():
        last = text.splitlines()[-1]
        assert ratings_in(last) is None  # the form itself is no rating
        numbers = itertools.count(4)
        while "<number>" in last:
            last = last.replace("<number>", str(next(numbers)), 1)
        assert ratings_in(last) == Ratings(4, 5)


def test_texts_with_braces_are_texts() -> None:
    template = "{prompt}|{answer_a}|{answer_b}|{other}"
    assert filled(template, "{answer_a}", "{prompt} {x}", r"\1") == r"{answer_a}|{prompt} {x}|\1|{other}"


def test_a_dialogue_is_read_as_it_was_held() -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    assert dialogue(chat) == "User: Hi\n\nAssistant: Ho"
    assert dialogue("\n\nHuman: Hi\n\nAssistant:") == "Human: Hi\n\nAssistant:"


def test_a_question_of_ones_own_has_all_places(tmp_path: Path) -> None:
    path = tmp_path / "question.txt"
    path.write_text("{prompt}: {answer_a} or {answer_b}?", encoding="utf-8")
    assert filled(read_template(path), "p", "a", "b") == "p: a or b?"
    path.write_text("{prompt}: which?", encoding="utf-8")
    with pytest.raises(SpecError, match=r"no \{answer_a\} and no \{answer_b\}") as error:
        read_template(path)
    assert str(path) in error.value.message
    with pytest.raises(SpecError, match="no such file"):
        read_template(tmp_path / "absent.txt")

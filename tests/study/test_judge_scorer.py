"""The judge as a scorer of sweeps: each row against the row of its prompt and sample."""

import json
from pathlib import Path
from typing import Any

import pytest

from arith.study.results import read_results
from arith.study.scores import read_scores
from tests.cli.conftest import arith as arith
from tests.cli.conftest import refused
from tests.study.judged_results import write_judge, write_results
from tests.study.stand_in import Answer, Body, StandIn, answers_in, by_length, chat, failure

# [prompts][samples] at h = 0 and at h = 1; `by_length` rates a text by its length.
LOW = [["aaa", "bbb"], ["cc", "dddd"]]
HIGH = [["aaaa", "bb"], ["cc", "ddddd"]]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "sweep"
    folder.mkdir()
    write_results(folder / "results.jsonl", LOW, point={"h": 0.0})
    write_results(folder / "results.jsonl", HIGH, point={"h": 1.0})
    return folder


def by_text(sweep: Path) -> dict[tuple[float, str], float]:
    rows = read_results(sweep)
    return {
        (float(row.point["h"]), row.text): score
        for row, score in zip(rows, read_scores(sweep, "judged", rows).values, strict=True)
    }


def test_a_row_wins_ties_or_loses_against_its_reference(arith: Any, sweep: Path, tmp_path: Path) -> None:
    with StandIn(by_length(bias=0.5)) as server:
        judge = write_judge(tmp_path / "s.yaml", server.url, kind=True, reference_point={"h": 0})
        result = arith("score-sweep", sweep, "--with", judge)
        assert result.exit_code == 0, result.stderr
        assert by_text(sweep) == {
            **{(0.0, text): 0.5 for samples in LOW for text in samples},
            (1.0, "aaaa"): 1.0, (1.0, "bb"): 0.0, (1.0, "cc"): 0.5, (1.0, "ddddd"): 1.0,
        }  # fmt: skip
        # Rows that are their own reference are no question, and equal texts one question in both orders.
        assert len(server.bodies) == 7
    assert "0.625" in result.stdout and "7 requests" in result.stderr and "7 replies" in result.stderr
    details = json.loads((sweep / "scores" / "judged.jsonl").read_text().splitlines()[-1])["details"]
    assert set(details) == {"outcome", "ratings", "replies"} and len(details["ratings"]) == 2


def test_ratings_are_the_rows_own(arith: Any, sweep: Path, tmp_path: Path) -> None:
    with StandIn(by_length(bias=0.5)) as server:
        write_results(tmp_path / "base.jsonl", LOW)
        judge = write_judge(
            tmp_path / "s.yaml", server.url, kind=True, reference="base.jsonl", value="rating"
        )
        assert arith("score-sweep", sweep, "--with", judge).exit_code == 0
        # A point a character, and half a point for standing first in one of two orders.
        assert by_text(sweep) == {
            (point, text): len(text) + 0.25
            for point, texts in ((0.0, LOW), (1.0, HIGH))
            for samples in texts
            for text in samples
        }
        # Three pairs of texts that differ, and five of equal ones, in which both orders are one request.
        assert len(server.bodies) == 2 * 3 + 4  # "cc" stands at both points


def test_rows_about_which_the_judge_says_nothing_have_no_score(
    arith: Any, sweep: Path, tmp_path: Path
) -> None:
    def answer(body: Body) -> Answer:
        return chat("Hm.") if "bb" in answers_in(body) else by_length()(body)

    with StandIn(answer) as server:
        judge = write_judge(tmp_path / "s.yaml", server.url, kind=True, reference_point={"h": 0})
        result = arith("score-sweep", sweep, "--with", judge)
    assert result.exit_code == 0 and "undetermined: 1" in result.stderr
    scores = by_text(sweep)
    assert scores.pop((1.0, "bb")) != 0 and sum(scores.values()) == 4.5


def test_a_judge_that_gives_out_keeps_scores_and_goes_on(arith: Any, sweep: Path, tmp_path: Path) -> None:
    def answer(body: Body) -> Answer:
        return failure(401, "expired") if len(server.bodies) > 5 else by_length()(body)

    with StandIn(answer) as server:
        judge = write_judge(
            tmp_path / "s.yaml", server.url, kind=True, reference_point={"h": 0}, concurrency=1
        )
        refused(arith("score-sweep", sweep, "--with", judge), "expired", "5 of 7 replies", "same command")
        kept = len((sweep / "scores" / "judged.jsonl").read_text().splitlines())
        assert 4 <= kept <= 4 + 3  # what was asked about last may come after the failure
        server.answers = by_length()
        before = len(server.bodies)
        assert arith("score-sweep", sweep, "--with", judge).exit_code == 0
        assert len(server.bodies) - before == 2 and len(by_text(sweep)) == 8


def test_what_costs_is_agreed_to_first(arith: Any, sweep: Path, tmp_path: Path) -> None:
    with StandIn(by_length()) as server:
        price = {"price": {"input": 1000.0, "output": 1000}, "reference_point": {"h": 0}}
        judge = write_judge(tmp_path / "s.yaml", server.url, kind=True, **price)
        refused(arith("score-sweep", sweep, "--with", judge), "scoring costs up to", "--yes")
        poor = write_judge(tmp_path / "p.yaml", server.url, kind=True, max_cost=0.01, **price)
        refused(arith("score-sweep", sweep, "--with", poor, "--yes"), "`max_cost` is 0.01")
        assert server.bodies == []
        assert arith("score-sweep", sweep, "--with", judge, "--yes").exit_code == 0


def test_other_texts_of_the_reference_are_judged_anew(arith: Any, sweep: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.jsonl"
    with StandIn(by_length()) as server:
        judge = write_judge(tmp_path / "s.yaml", server.url, kind=True, reference=base.name)
        write_results(base, LOW)
        assert arith("score-sweep", sweep, "--with", judge).exit_code == 0
        assert by_text(sweep)[1.0, "aaaa"] == 1.0
        base.unlink()
        write_results(base, [["aaaaa", "bbb"], *LOW[1:]])
        result = arith("score-sweep", sweep, "--with", judge)
        assert result.exit_code == 0 and "judged: 2 texts" in result.stderr  # at both points
        assert by_text(sweep)[1.0, "aaaa"] == 0.0
        assert "nothing to do" in arith("score-sweep", sweep, "--with", judge).stderr


def test_judges_with_one_cache_pay_together_for_what_both_ask(
    arith: Any, sweep: Path, tmp_path: Path
) -> None:
    """Two judges that differ in what becomes of a row's score alone: each would ask seven times."""
    judges = tmp_path / "judges.yaml"
    with StandIn(by_length()) as server:
        keys = {
            "kind": "judge", "url": server.url, "model": "m", "criterion": "overall",
            "reference_point": {"h": 0}, "price": {"input": 0, "output": 1000}, "max_tokens": 1000,
        }  # fmt: skip
        both = {
            "one": keys,
            "two": {**keys, "seed": 1, "cache": "../" + tmp_path.name + "/judge_cache.jsonl"},
        }
        judges.write_text(json.dumps(both))
        refused(arith("score-sweep", sweep, "--with", judges), "scoring costs up to 7\n")
        assert arith("score-sweep", sweep, "--with", judges, "--yes").exit_code == 0
        assert len(server.bodies) == 7
    assert len((tmp_path / "judge_cache.jsonl").read_text().splitlines()) == 7


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, ["scorer `judged`", "`reference`", "`reference_point`"]),
        ({"reference_point": {"h": 0.5}}, ["no row has the point h=0.5", "its points: h=0; h=1"]),
        ({"reference_point": {"g": 0}}, ["no row has the point g=0"]),
        ({"reference": "absent.jsonl"}, ["absent.jsonl: no such file"]),
        ({"reference": "sweep"}, ["holds rows of 2 points"]),
        ({"reference": "half.jsonl"}, ["4 of 8 rows have no reference", "prompt 0, h=0, sample 1"]),
        ({"reference_point": {"h": 0}, "key_env": "NO_SUCH_KEY"}, ["NO_SUCH_KEY, which `key_env` names"]),
        ({"reference_point": {"h": 0}, "prompt": "q.txt"}, ["needs either `criterion` or `prompt`"]),
        ({"reference_point": {"h": 0}, "reference": "half.jsonl"}, ["not both"]),
        ({"reference_point": {"h": 0}, "max_cost": 1}, ["needs `price` for `max_cost`"]),
        ({"url": "localhost:80"}, ["`judged.url` must be a URL"]),
        ({"swap": "sometimes"}, ["`judged.swap`"]),
        ({"extra_body": {"messages": []}}, ["`extra_body`"]),
        ({"tempreature": 1}, ["did you mean `temperature`?"]),
    ],
)
def test_bad_settings_are_refused_before_anything_is_asked(
    arith: Any, sweep: Path, tmp_path: Path, settings: dict[str, object], words: list[str]
) -> None:
    write_results(tmp_path / "half.jsonl", [[text] for text, _ in LOW])
    with StandIn(by_length()) as server:
        judge = write_judge(tmp_path / "s.yaml", server.url, kind=True, **settings)
        refused(arith("score-sweep", sweep, "--with", judge), *words)
        assert server.bodies == []

"""Win rates between two results, as they are and at equal lengths."""

import json
import math
import random
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arith.errors import SpecError
from arith.study.judging.length_control import fitted, length_controlled, length_terms
from arith.study.judging.matching import at_point
from arith.study.judging.win_rate import Matched, WinRate, by_scores
from arith.study.results import read_results
from tests.cli.conftest import arith as arith
from tests.cli.conftest import refused
from tests.study.judged_results import write_judge, write_results
from tests.study.stand_in import Answer, Body, StandIn, answers_in, by_length, chat

A = [["aaaa"], ["bb"], ["ccc"], ["d" * 6]]
B = [["aaa"], ["bbb"], ["ccc"], ["ddd"]]


@pytest.fixture
def results(tmp_path: Path) -> tuple[Path, Path]:
    """Two wins, a tie and a loss for the first by length."""
    return write_results(tmp_path / "a.jsonl", A), write_results(tmp_path / "b.jsonl", B)


def test_a_win_rate_counts_ties_half_and_its_sides_sum_to_one(
    arith: Any, results: tuple[Path, Path], tmp_path: Path
) -> None:
    with StandIn(by_length(bias=0.5)) as server:
        judge = write_judge(tmp_path / "judge.yaml", server.url)
        out = tmp_path / "judged.jsonl"
        result = arith("win-rate", *results, "--judge", judge, "--out", out)
        assert result.exit_code == 0, result.stderr
        asked = len(server.bodies)
        other = arith("win-rate", *reversed(results), "--judge", judge)
        assert len(server.bodies) == asked == 7  # the other way round the orders are the same two
    assert "0.625 [" in result.stdout and "0.375 [" in other.stdout
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    found = {row["prompt_id"]: row["outcome"] for row in rows}
    assert found == {0: "win", 1: "lose", 2: "tie", 3: "win"}
    assert all(row["texts"] == [A[row["prompt_id"]][0], B[row["prompt_id"]][0]] for row in rows)


def test_interrupted_judgements_go_on_and_those_of_other_answers_are_refused(
    arith: Any, results: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "judged.jsonl"
    with StandIn(by_length(bias=0.5)) as server:
        judge = write_judge(tmp_path / "judge.yaml", server.url)
        words = ["win-rate", *results, "--judge", judge, "--out", out]
        whole = arith(*words)
        lines = out.read_text().splitlines(keepends=True)
        out.write_text("".join(lines[:2]) + lines[2][:9])
        again = arith(*words)
        assert (again.exit_code, again.stdout) == (0, whole.stdout)
        assert sorted(out.read_text().splitlines(keepends=True)) == sorted(lines)
        other = write_results(tmp_path / "c.jsonl", [["other"], *B[1:]])
        words = ["win-rate", results[0], other, "--judge", judge, "--out", out]
        refused(arith(*words), f"{out}: holds judgements of other answers", "--overwrite")
        assert arith(*words, "--overwrite").exit_code == 0
        refused(arith("win-rate", *results, "--judge", judge, "--overwrite"), "name it with --out")


def test_undetermined_comparisons_are_counted_and_left_out(
    arith: Any, results: tuple[Path, Path], tmp_path: Path
) -> None:
    def answer(body: Body) -> Answer:
        return chat(None, finish_reason="content_filter") if "bb" in answers_in(body) else by_length()(body)

    with StandIn(answer) as server:
        judge = write_judge(tmp_path / "judge.yaml", server.url)
        result = arith("win-rate", *results, "--judge", judge)
        silent = arith("win-rate", *results, "--judge", write_judge(judge, f"{server.url}/x", cut_at="b"))
    assert "0.8333 [" in result.stdout and "undetermined: 1" in result.stderr
    assert silent.exit_code == 0  # cut at "b" both answers are empty: a tie at 0, which is no rating


def test_rows_without_a_counterpart_are_told_and_left_out(arith: Any, tmp_path: Path) -> None:
    one = write_results(tmp_path / "a.jsonl", [["aa", "a"], ["b"]])
    other = write_results(tmp_path / "b.jsonl", [["a"], ["bb"], ["c"]])
    lone = write_results(tmp_path / "c.jsonl", [["a"]], prompts=["elsewhere"])
    with StandIn(by_length()) as server:
        judge = write_judge(tmp_path / "judge.yaml", server.url)
        result = arith("win-rate", one, other, "--judge", judge)
        assert result.exit_code == 0 and "0.5" in result.stdout
        assert f"{one}: 1 rows have no counterpart and are left out:\n  prompt 0, sample 1" in result.stderr
        assert f"{other}: 1 rows have no counterpart and are left out:\n  prompt 2, sample 0" in result.stderr
        refused(arith("win-rate", one, lone, "--judge", judge), "no row of one has its counterpart")


def test_a_sweep_takes_part_with_one_point(arith: Any, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    folder.mkdir()
    for h, texts in ((0.0, B), (0.5, A)):
        write_results(folder / "results.jsonl", texts, point={"h": h, "formula": "f"})
    with StandIn(by_length()) as server:
        judge = write_judge(tmp_path / "judge.yaml", server.url)
        words = ["win-rate", folder, folder, "--judge", judge]
        refused(arith(*words), "holds rows of 2 points", "h=0, formula=f; h=0.5")
        refused(arith(*words, "--point", "h=0.25"), "no row has the point h=0.25")
        refused(arith(*words, "--point", "h"), "--point h: must be NAME=VALUE")
        refused(arith(*words, "--point", "h=0_5"), "no row has the point h=0_5")
        result = arith(*words, "--point", "h=0.5", "--point", "formula=f", "--reference-point", "h=0")
    assert result.exit_code == 0 and "0.625" in result.stdout


def test_a_point_is_named_as_it_is_shown_and_exactly_where_that_is_not_enough(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    for h in (0.1234567, 0.30000000000000004, 0.4000001, 0.4000002):
        write_results(path, [["text"]], point={"h": h})
    rows = read_results(path)

    def at(h: float) -> Any:
        return at_point(rows, {"h": h}, path)[0].point["h"]

    assert at(0.123457) == at(0.1234567) == 0.1234567 and at(0.3) == 0.30000000000000004
    assert at(0.4000002) == 0.4000002
    with pytest.raises(SpecError, match=r"rows of 2 points with h=0\.4, and one") as caught:
        at(0.4)
    assert caught.value.hint == "its points: h=0.4000001; h=0.4000002"
    with pytest.raises(SpecError, match=r"no row has the point h=0\.12345670000001"):
        at(0.12345670000001)


def test_scores_that_are_there_compare_too(arith: Any, results: tuple[Path, Path], tmp_path: Path) -> None:
    refused(arith("win-rate", *results, "--scores", "length"), "no scores `length`", "arith score-sweep")
    for path in results:
        (path.parent / path.stem).mkdir()
        path.rename(path.parent / path.stem / "results.jsonl")
    folders = [path.parent / path.stem for path in results]
    for folder in folders:
        assert arith("score-sweep", folder, "--with", "length").exit_code == 0
    result = arith("win-rate", *folders, "--scores", "length")
    assert result.exit_code == 0 and "0.625 [" in result.stdout
    refused(arith("win-rate", *folders), "--judge FILE or by --scores NAME")
    assert by_scores([1.0, math.nan, 0.0], [0.0, 1.0, 0.0]) == ["win", "undetermined", "tie"]


def test_scores_that_other_settings_made_are_not_compared(
    arith: Any, results: tuple[Path, Path], tmp_path: Path
) -> None:
    scorers = tmp_path / "scorers.yaml"
    for path, kind in zip(results, ("length", "distinct_1"), strict=True):
        scorers.write_text(f"mine: {{kind: {kind}}}")
        assert arith("score-sweep", path, "--with", scorers).exit_code == 0
    words = ("win-rate", *results, "--scores", "mine")
    refused(arith(*words), f"`mine` of {results[0]} and of {results[1]}", "different settings", "--overwrite")
    assert arith("score-sweep", results[0], "--with", scorers, "--overwrite").exit_code == 0
    assert arith(*words).exit_code == 0


def test_the_order_of_the_rows_on_disk_changes_no_interval(arith: Any, tmp_path: Path) -> None:
    """Four wins, a tie and two losses, one of them of the same prompt as a win."""
    one = write_results(
        tmp_path / "a.jsonl", [["aaaa", "a"], ["b" * 3], ["c" * 3], ["d" * 6], ["e"], ["f" * 5]]
    )
    other = write_results(tmp_path / "b.jsonl", [["aaa", "aaa"], ["b"], ["c"], ["ddd"], ["eee"], ["f" * 5]])
    rows = read_results(one)

    def rate(first: list[Any]) -> str:
        couples = Matched.of(first, read_results(other)).couples
        lengths = [(len(row.text), len(beside.text)) for row, beside in couples]
        found = WinRate.of(couples, by_scores(*zip(*lengths, strict=True)), lengths)
        return f"{found.rate} {found.controlled}"

    assert {rate(random.Random(seed).sample(rows, len(rows))) for seed in range(2)} == {rate(rows)}


def test_a_judge_file_says_what_is_wrong_in_it(
    arith: Any, results: tuple[Path, Path], tmp_path: Path
) -> None:
    for settings, words in (
        ({"criterion": None}, ["the file needs either `criterion` or `prompt`"]),
        (
            {"price": {"input": 1, "output": 1, "ouput": 1}},
            ["unknown key `price.ouput`", "did you mean `output`?"],
        ),
        ({"reference_point": {"h": 0}}, ["judge.yaml:1: `reference_point` is for the scores of a sweep"]),
        ({"criterion": "funny"}, ["`criterion`", "'overall', 'helpful' or 'harmless'"]),
    ):
        judge = write_judge(tmp_path / "judge.yaml", "http://127.0.0.1:9/v1", **settings)
        refused(arith("win-rate", *results, "--judge", judge), *words)


def lengths_and_wins(count: int, effect: float, rate: float) -> tuple[list[float], list[tuple[int, int]]]:
    """Comparisons in which the first side is longer as a rule, and wins by both length and quality."""
    draw = random.Random(0)
    lengths = [(round(draw.gauss(220, 40)), round(draw.gauss(200, 40))) for _ in range(count)]
    margin = math.log(rate / (1 - rate))
    chances = [1 / (1 + math.exp(-margin - effect * term)) for term in length_terms(lengths)]
    return [float(draw.random() < chance) for chance in chances], lengths


@pytest.mark.parametrize(("effect", "rate"), [(0.0, 0.7), (3.0, 0.5), (2.0, 0.3)])
def test_length_control_finds_the_rate_at_equal_lengths(effect: float, rate: float) -> None:
    wins, lengths = lengths_and_wins(20_000, effect, rate)
    found = fitted(np.array(wins), length_terms(lengths), np.ones(len(wins)))
    assert 1 / (1 + math.exp(-found[0])) == pytest.approx(rate, abs=0.02)  # four standard errors
    assert found[1] == pytest.approx(effect, abs=0.2)
    if effect:
        assert sum(wins) / len(wins) > rate + 0.05  # what length alone brings isn't counted


def test_the_interval_is_as_wide_as_the_information_says() -> None:
    """The standard error of a comes from the inverse Fisher information; 95% are 1.96 of it to each side."""
    wins, lengths = lengths_and_wins(600, 2.0, 0.6)
    found = length_controlled(wins, lengths, range(len(wins)))
    terms = length_terms(lengths)
    matrix = np.stack([np.ones_like(terms), terms], axis=1)
    chances = 1 / (1 + np.exp(-matrix @ fitted(np.array(wins), terms, np.ones(len(wins)))))
    information = (matrix.T * (chances * (1 - chances))) @ matrix + np.diag([0.0, 1.0])
    error = found.mean * (1 - found.mean) * math.sqrt(np.linalg.inv(information)[0, 0])
    assert found.low < found.mean < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_length_control_is_the_minimum_of_its_loss() -> None:
    """The loss as it is written, which is strictly convex, has no slope there; with ties among the wins."""
    wins, lengths = lengths_and_wins(400, 1.0, 0.6)
    wins[::5] = [0.5] * len(wins[::5])
    differences = [first - second for first, second in lengths]
    terms = [math.tanh(difference / statistics.stdev(differences)) for difference in differences]

    def loss(a: float, b: float) -> float:
        chances = [1 / (1 + math.exp(-a - b * term)) for term in terms]
        pairs = zip(wins, chances, strict=True)
        return b * b / 2 - math.fsum(y * math.log(p) + (1 - y) * math.log(1 - p) for y, p in pairs)

    a, b = fitted(np.array(wins), length_terms(lengths), np.ones(len(wins))).tolist()
    assert (loss(a + 1e-4, b) - loss(a - 1e-4, b)) / 2e-4 == pytest.approx(0, abs=1e-5)
    assert (loss(a, b + 1e-4) - loss(a, b - 1e-4)) / 2e-4 == pytest.approx(0, abs=1e-5)
    rate = length_controlled(wins, lengths, range(len(wins))).mean
    assert rate == pytest.approx(1 / (1 + math.exp(-a)))


@pytest.mark.parametrize(("wins", "rate"), [([1.0] * 4, 1.0), ([0.0] * 4, 0.0), ([0.5] * 4, 0.5)])
def test_length_control_of_one_outcome_is_that_outcome(wins: list[float], rate: float) -> None:
    lengths = [(10, 20), (30, 5), (7, 7), (1, 2)]
    assert length_controlled(wins, lengths, range(4)).mean == pytest.approx(rate)
    assert length_controlled(wins[:2], [(5, 5), (5, 5)], range(2)).mean == pytest.approx(rate)


def test_the_command_tells_the_controlled_rate(arith: Any, tmp_path: Path) -> None:
    """A judge that likes length alone: at equal lengths neither side wins."""
    draw = random.Random(1)
    sides = [[["x" * draw.randint(low, 8)] for _ in range(150)] for low in (4, 1)]
    paths = [write_results(tmp_path / f"{name}.jsonl", side) for name, side in zip("ab", sides, strict=True)]
    with StandIn(by_length()) as server:
        judge = write_judge(tmp_path / "judge.yaml", server.url)
        result = arith("win-rate", *paths, "--judge", judge, "--length-controlled")
    assert result.exit_code == 0 and "at equal lengths" in result.stdout
    rows = [read_results(path) for path in paths]
    couples = Matched.of(*rows).couples
    lengths = [(len(one.text), len(other.text)) for one, other in couples]
    found = WinRate.of(couples, by_scores(*zip(*lengths, strict=True)), lengths)
    assert found.controlled is not None and found.rate.low > 0.5
    assert found.controlled.low < 0.5 < found.controlled.high
    assert str(found.rate) in result.stdout and str(found.controlled) in result.stdout

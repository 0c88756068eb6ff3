"""Pairs of the base's own answers to train on, from the sweep in work/own: of the answers to each question
the one that the teacher likes best and the one that it likes least."""

import json
from collections import defaultdict
from pathlib import Path

from arith.study.results import ResultRow, read_results
from arith.study.scores import read_scores

WORK = Path(__file__).resolve().parent / "work"
HELD_OUT = 40
"""Questions whose pairs are not trained on."""


def main() -> None:
    rows = read_results(WORK / "own")
    answers: dict[str, list[tuple[float, ResultRow]]] = defaultdict(list)
    for row, score in zip(rows, read_scores(WORK / "own", "teacher", rows).values, strict=True):
        answers[row.prompt_key].append((score, row))
    pairs = []
    for scored in answers.values():
        ranked = sorted(scored, key=lambda one: one[0])
        (_, worst), (_, best) = ranked[0], ranked[-1]
        if best.text != worst.text:
            pairs.append({"prompt": best.prompt, "chosen": best.text, "rejected": worst.text})
    for name, part in (("own.test.jsonl", pairs[:HELD_OUT]), ("own.train.jsonl", pairs[HELD_OUT:])):
        (WORK / name).write_text("".join(json.dumps(pair) + "\n" for pair in part), encoding="utf-8")
        print(f"{len(part)} pairs in {WORK.name}/{name}")


if __name__ == "__main__":
    main()

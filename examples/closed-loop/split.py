"""Cuts preference pairs in two by their prompts, one half for operands and one for judges, and takes prompts
to be answered out of held-out pairs: `python split.py DATA`."""

import argparse
import gzip
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Pair = dict[str, Any]
WORK = Path(__file__).resolve().parent / "work"
HELD_OUT = 120
"""Pairs of each kind on which what is trained is measured."""
LONGEST_QUESTION = 200
"""Characters of a prompt that is answered."""
QUESTIONS = 16
"""Prompts of each kind that are answered to be judged."""
LEARNT_FROM = 128
"""Prompts that are answered to learn from the answers."""


@dataclass(frozen=True)
class Source:
    """Pairs of one kind: in `FILE.train.jsonl.gz` and `FILE.test.jsonl.gz`, of which those are taken whose
    prompt and longer answer have at most `longest` characters."""

    name: str
    file: str
    longest: int
    prompt: Callable[[Pair], str]

    def read(self, folder: Path, part: str) -> list[Pair]:
        with gzip.open(folder / f"{self.file}.{part}.jsonl.gz", "rt", encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def short(self, pairs: Iterable[Pair]) -> list[Pair]:
        return [pair for pair in pairs if self.length(pair) <= self.longest]

    @staticmethod
    def length(pair: Pair) -> int:
        return len(pair.get("prompt", "")) + max(len(pair["chosen"]), len(pair["rejected"]))


def transcript(pair: Pair) -> str:
    """What both transcripts of a pair of HH-RLHF begin with: all before the last answer."""
    return str(pair["chosen"]).rpartition("\n\nAssistant:")[0]


def instruction(pair: Pair) -> str:
    return str(pair["prompt"])


HARMLESS = Source("harmless", "hh-harmless", 600, transcript)
HELPFUL = Source("helpful", "helpful", 400, instruction)


def half(prompt: str) -> str:
    """`a` or `b`. It follows from the prompt alone, so no prompt stands on both sides."""
    return "ab"[hashlib.sha256(prompt.encode()).digest()[0] % 2]


def questions(prompts: Iterable[str], count: int | None = None) -> list[Pair]:
    """The first distinct prompts that are short enough and go on with nothing before them."""
    single = (
        prompt.removeprefix("\n\nHuman:").strip() for prompt in prompts if prompt.count("\n\nHuman:") <= 1
    )
    short = [prompt for prompt in dict.fromkeys(single) if len(prompt) <= LONGEST_QUESTION]
    return [{"prompt": prompt} for prompt in short[:count]]


def write(name: str, rows: list[Pair]) -> None:
    (WORK / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print(f"{len(rows):,} rows in {WORK.name}/{name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="the folder of {hh-harmless,helpful}.{train,test}.jsonl.gz")
    folder = parser.parse_args().data
    WORK.mkdir(exist_ok=True)
    asked = []
    for source in (HARMLESS, HELPFUL):
        halves: dict[str, list[Pair]] = {"a": [], "b": []}
        for pair in source.read(folder, "train"):
            halves[half(source.prompt(pair))].append(pair)
        for side, pairs in halves.items():
            write(f"{source.name}.{side}.jsonl", source.short(pairs))
        held_out = source.read(folder, "test")
        write(f"{source.name}.test.jsonl", source.short(held_out)[:HELD_OUT])
        asked += questions(map(source.prompt, held_out), QUESTIONS)
        if source is HELPFUL:
            write("questions.jsonl", questions(map(source.prompt, halves["a"]), LEARNT_FROM))
    write("prompts.jsonl", asked)


if __name__ == "__main__":
    main()

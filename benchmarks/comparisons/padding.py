"""Tokens run through the models for each one that has to be."""

from collections.abc import Iterator

from arith import LLM
from arith.operands.prompts import render
from arith.operands.tokenizers import load_tokenizer
from arith.runtime.measuring import Figure, Target
from benchmarks.subject import PROMPTS, Extent, Subject

SLOTS = 8
TARGET = Target("<=", 1.02)


def padding(subject: Subject, extent: Extent) -> Iterator[Figure]:
    """Prompts of mixed length through eight slots, whose texts end when they will: tokens run for each useful
    one."""
    prompts, tokens = mixed(16 if extent.quick else 64), 16 if extent.quick else 48
    formula = subject.average(2, None)
    engine = subject.engine(formula, max_rows=SLOTS)
    engine.stats.reset()
    results = engine.generate(prompts, max_new_tokens=tokens)
    operands = [one for one in formula.bindings.values() if isinstance(one, LLM)]
    # What each operand has to read: its prompt, and all tokens but the last.
    whole = sum(
        len(render(operand, load_tokenizer(operand), prompts[one.index])) + len(one.token_ids) - 1
        for one in results
        for operand in operands
    )
    lengths = sorted(len(one.token_ids) for one in results)
    case = f"{len(prompts)} prompts, {SLOTS} slots, N = 2, texts of {lengths[0]} to {lengths[-1]} tokens"
    stats = engine.stats
    yield Figure(
        "tokens run, of those not padding",
        case,
        "tokens",
        stats.tokens_run / stats.tokens_useful,
        target=TARGET,
    )
    yield Figure("tokens run, of prompts and texts", case, "tokens", stats.tokens_run / whole, target=TARGET)


def mixed(count: int) -> list[str]:
    """Prompts from a few words to many sentences."""
    return [
        " ".join(PROMPTS[(one + more) % len(PROMPTS)] for more in range(1 + one * 7 % 8))
        for one in range(count)
    ]

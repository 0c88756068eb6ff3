"""Rewinding: how often which text comes; batches, streams and drafts; what it costs and what it reports."""

import functools
import re
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
import regex
import torch

from arith import Engine, Formula, RewardModel
from arith.runtime.backbones.slots import SlotBackbone
from arith.runtime.result import Result
from tests.runtime.frequencies import assert_as_frequent
from tests.runtime.reference import plain, raw

ALLOWED = "abcd "
IDS = [ord(character) for character in ALLOWED]
MASK = f"tokens({', '.join(map(str, IDS))})"
PROMPTS = ["the rain in spain falls", "a b a b a b a b", "Once upon a time there was another", " x"]
# Common enough in what the tiny models write; the second one is nowhere open for long.
FORBID: list[Any] = ["a", "e", "/[0-9A-Z]/", re.compile(r"[^\w\s]{2}")]

Log = Callable[[str], list[float]]


def begin_of(words: list[str], text: str, ended: bool) -> int | None:
    """Where the first of the words begins that stands in the text, and has ended."""
    found = []
    for word in words:
        for start in range(len(text) - len(word) + 1):
            end = start + len(word)
            alone = not text[start - 1 : start].isalnum() and not text[end : end + 1].isalnum()
            if text[start:end].lower() == word.lower() and alone and (ended or end < len(text)):
                found.append(start)
    return min(found, default=None)


def process(log_probs: Log, words: list[str], length: int) -> dict[str, float]:
    """The probability of each text under the process as it is documented, step by step.

    A state is the text so far (each character a token), and the characters banned at each step.
    """

    @functools.cache
    def outcomes(text: str, bans: tuple[frozenset[str], ...]) -> dict[str, float]:
        if len(text) == length:
            return {text: 1.0}
        banned = bans[len(text)] if len(bans) > len(text) else frozenset()
        weights = torch.tensor(log_probs(text), dtype=torch.float64).exp()
        weights *= torch.tensor([character not in banned for character in ALLOWED])
        result: Counter[str] = Counter()
        for character, share in zip(ALLOWED, (weights / weights.sum()).tolist(), strict=True):
            if share == 0:
                continue
            new = text + character
            at = begin_of(words, new, len(new) == length)
            if at is None:
                following = outcomes(new, bans)
            else:
                kept = [*bans[: at + 1], *[frozenset[str]()] * (at + 1 - len(bans))]
                kept[at] |= {new[at]}
                following = outcomes(new[:at], tuple(kept))
            for final, part in following.items():
                result[final] += share * part
        return dict(result)

    return outcomes("", ())


@pytest.mark.parametrize("speculate", [False, {"draft": f"within(base, {MASK})", "tokens": 2}])
@pytest.mark.parametrize(
    ("words", "formula", "temperature"),
    [
        (["ab", "c"], "base", 4.0),
        (["a", "cb"], "base", 1.0),
        (["b", "bc", "a b"], "max(base, arm)", 4.0),
        (["ca", "ab", "d"], "base + 0.5*arm", 6.0),
    ],
)
def test_texts_come_as_often_as_the_process_says(
    words: list[str],
    formula: str,
    temperature: float,
    speculate: Any,
    tiny_llama: str,
    tiny_llama_other: str,
) -> None:
    """Texts of three characters out of five, in ragged batches, over many seeds."""
    operands = {"base": raw(tiny_llama), "arm": raw(tiny_llama_other)}
    used = {name: one for name, one in operands.items() if name in formula}
    engine = Engine(Formula(f"within({formula}, {MASK})", **used), max_rows=50)
    combine: dict[str, Callable[..., torch.Tensor]] = {
        "base": lambda base: base,
        "max(base, arm)": torch.maximum,
        "base + 0.5*arm": lambda base, arm: base + 0.5 * arm,
    }
    options: dict[str, Any] = {"max_new_tokens": 3, "temperature": temperature, "forbid": words}
    prompts = ["ab", "once upon a time", "x"]
    seen: dict[str, Counter[str]] = {prompt: Counter() for prompt in prompts}
    for seed in range(10):
        found = engine.generate(prompts, num_return_sequences=100, seed=seed, speculate=speculate, **options)
        for one in found:
            seen[prompts[one.index]][one.text] += 1
    assert engine.stats.rewinds > 100 and (engine.stats.drafted > 0) == bool(speculate)
    for prompt in prompts:

        def log_probs(text: str, prompt: str = prompt) -> list[float]:
            ids = [*plain(tiny_llama).raw(prompt), *map(ord, text)]
            rows = [plain(one.model).log_probs(ids, 1)[0] for one in used.values()]
            return [float(value) / temperature for value in combine[formula](*rows)[IDS]]

        expected = process(log_probs, words, 3)
        assert all(begin_of(words, text, True) is None for text in expected)
        assert_as_frequent(seen[prompt], expected)


def test_the_numbers_that_led_to_a_forbidden_word_are_not_used_again(tiny_llama: str) -> None:
    """With them, what came second would come second again: the chi-square of that process is told apart."""
    engine = Engine(Formula(f"within(0*base, {MASK})", base=raw(tiny_llama)), max_rows=64)
    engine.stats.reset()
    found = engine.generate(
        "ab", max_new_tokens=2, num_return_sequences=3000, seed=3, forbid=["aa", "ab", "ac", "ba", "ca"]
    )
    expected = process(lambda _: [0.0] * 5, ["aa", "ab", "ac", "ba", "ca"], 2)
    assert_as_frequent(Counter(one.text for one in found), expected)


@pytest.fixture(scope="module")
def engine(tiny_llama: str, tiny_llama_other: str) -> Engine:
    return Engine(Formula("base + 0.5*arm", base=raw(tiny_llama), arm=raw(tiny_llama_other)), max_rows=3)


def told(found: list[Result]) -> list[tuple[list[int], str]]:
    return [(one.token_ids, one.finish_reason) for one in found]


OPTIONS: dict[str, Any] = {"max_new_tokens": 16, "seed": 5, "forbid": FORBID}


def test_a_row_alone_is_the_row_in_a_batch(engine: Engine) -> None:
    options = {**OPTIONS, "num_return_sequences": 2}
    together = engine.generate(PROMPTS, **options)
    assert engine.stats.rewinds > 20
    alone = [one for prompt in PROMPTS for one in engine.generate(prompt, **options)]
    assert told(alone) == told(together)
    for one in together:
        assert not regex.search(r"\b[ae]\b|[0-9A-Z]|[^\w\s]{2}", one.text, regex.IGNORECASE)


@pytest.mark.parametrize(
    "draft",
    [
        {"draft": "base", "tokens": 3},
        {"draft": "arm", "tokens": 2},
        {"lazy": ["arm"], "tokens": 5},
        "prompt_lookup",
    ],
)
@pytest.mark.parametrize(
    "sampling", [{"seed": 5}, {"temperature": 0}, {"top_k": 5, "stop_strings": ["q", "z~"]}]
)
def test_a_draft_changes_nothing(draft: Any, sampling: dict[str, Any], engine: Engine) -> None:
    options = {**OPTIONS, **sampling}
    expected = engine.generate(PROMPTS, **options)
    engine.stats.reset()
    found = engine.generate(PROMPTS, speculate=draft, **options)
    assert told(found) == told(expected)
    assert engine.stats.drafted > 0 and engine.stats.rewinds > 0


@pytest.mark.parametrize("draft", [False, {"draft": "base", "tokens": 4}])
@pytest.mark.parametrize("forbid", [FORBID, ["a", "er", "in an"], [lambda text, ended: None, "e"]])
def test_a_stream_shows_nothing_that_is_taken_back(forbid: list[Any], draft: Any, engine: Engine) -> None:
    options = {**OPTIONS, "forbid": forbid, "speculate": draft}
    expected = {(one.index, one.sample): one for one in engine.generate(PROMPTS, **options)}
    shown: dict[tuple[int, int], list[Any]] = {key: [] for key in expected}
    for piece in engine.stream(PROMPTS, **options):
        shown[piece.index, piece.sample].append(piece)
    for key, pieces in shown.items():
        assert [token for piece in pieces for token in piece.token_ids] == expected[key].token_ids
        assert "".join(piece.text for piece in pieces) == expected[key].text
    early = sum(len(piece.token_ids) for pieces in shown.values() for piece in pieces[:-1])
    assert (early == 0) == callable(forbid[0]), "a function may reject all, words are told by their letters"


def test_a_streamer_is_told_what_stays(engine: Engine) -> None:
    class Recorder:
        def __init__(self) -> None:
            self.tokens: list[int] = []

        def put(self, value: torch.Tensor) -> None:
            self.tokens += value.flatten().tolist()

        def end(self) -> None:
            pass

    options: dict[str, Any] = {"max_new_tokens": 30, "seed": 2, "forbid": FORBID}
    recorder = Recorder()
    result = engine.generate(PROMPTS[0], streamer=recorder, **options)[0]
    assert recorder.tokens == [
        *plain(next(iter(engine.operands.values())).model).raw(PROMPTS[0]),
        *result.token_ids,
    ]


def test_nothing_is_computed_again(engine: Engine) -> None:
    """Each lane runs its prompt once, and one token for each that is drawn after the first."""
    for prompt in PROMPTS:
        engine.stats.reset()
        found = engine.generate(prompt, max_new_tokens=20, seed=4, forbid=FORBID)[0]
        stats = engine.stats
        assert stats.rewinds > 0
        drawn = len(found.token_ids) + stats.rewinding.tokens
        read = len(plain(next(iter(engine.operands.values())).model).raw(prompt)) + drawn - 1
        assert stats.tokens_run == stats.tokens_useful == 2 * read


@pytest.mark.parametrize(
    "formula",
    [
        "base + 0.5*arm",
        "base + 0.01*log_likelihood(arm)*arm",
        "where(t < 4, base + 0*arm, arm)",
        "base - 0.3*layer(base, 1) + 0.2*arm",
    ],
)
def test_logprobs_are_those_of_the_text_that_stays(
    formula: str, tiny_llama: str, tiny_llama_other: str
) -> None:
    engine = Engine(Formula(formula, base=raw(tiny_llama), arm=raw(tiny_llama_other)))
    check_scores(engine, PROMPTS)


def check_scores(engine: Engine, prompts: list[str]) -> None:
    engine.stats.reset()
    found = engine.generate(prompts, max_new_tokens=16, seed=5, forbid=FORBID)
    assert engine.stats.rewinds > 0
    scored = engine.score(prompts, [one.token_ids for one in found])
    for one, other in zip(found, scored, strict=True):
        for name, values in other.logprobs.items():
            assert one.logprobs[name] == pytest.approx(values, abs=2e-3, nan_ok=True)


def test_guides_go_back_too(tiny_llama: str, tiny_reward: str) -> None:
    reward = RewardModel(tiny_reward, template="{text}")
    check_scores(Engine(Formula("base + guide(r, on=base, k=8)", base=raw(tiny_llama), r=reward)), PROMPTS)


def test_models_without_a_cache_go_back_too(tiny_mamba: str) -> None:
    check_scores(Engine(raw(tiny_mamba)), PROMPTS)


def test_a_prompt_of_one_token_is_gone_back_to(tiny_gpt2: str, tiny_mistral_sliding: str) -> None:
    for model, prompt in ((tiny_gpt2, "x"), (tiny_mistral_sliding, "the rain in spain falls again")):
        engine = Engine(raw(model))
        free = engine.generate(prompt, max_new_tokens=3, temperature=0)[0]
        first = free.text[0]
        assert len(plain(model).raw(prompt)) == 1 or model == tiny_mistral_sliding
        found = engine.generate(prompt, max_new_tokens=3, temperature=0, forbid=f"/{re.escape(first)}/")[0]
        scored = engine.score(prompt, [found.token_ids])[0]
        assert first not in found.text and engine.stats.rewinds > 0
        assert found.logprobs["formula"] == pytest.approx(scored.logprobs["formula"], abs=1e-3)


def test_rows_go_back_where_memory_gives_out_too(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {**OPTIONS, "num_return_sequences": 2}
    expected = engine.generate(PROMPTS, **options)
    whole, calls = SlotBackbone.step, count(1)

    def failing(self: SlotBackbone, *arguments: Any) -> torch.Tensor:
        if next(calls) == 6:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 TB")
        return whole(self, *arguments)

    monkeypatch.setattr(SlotBackbone, "step", failing)
    engine.stats.reset()
    assert told(engine.generate(PROMPTS, **options)) == told(expected)
    assert engine.stats.lowered_to == 1 and engine.stats.rewinds > 0


def test_without_guards_nothing_is_held_back_or_counted(engine: Engine) -> None:
    engine.stats.reset()
    pieces = list(engine.stream("on", max_new_tokens=5, forbid=[]))
    assert [len(piece.token_ids) for piece in pieces] == [1] * 5
    assert engine.stats.rewinds == 0

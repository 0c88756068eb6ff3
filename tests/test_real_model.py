"""The engine over the real 135M chat model, against transformers on the same converted weights."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from arith import LLM, Engine, Formula
from arith.operands.half_linear import computes
from arith.runtime.backbones.backbone import Backbone
from arith.runtime.backbones.lane import LaneRequest
from tests.conftest import save_lora

CPU = torch.device("cpu")
CHILD = "You are a small child. Use short, simple words."
LONG = "Summarise this: " + "The river rose in the night, and in the morning the bridge was gone. " * 12
PROMPTS = ["Hi", "Why is the sky blue?", LONG, "Write two lines about the sea."]


class Reference:
    """transformers on the converted folder: `generate`, and plain forwards without a cache."""

    def __init__(self, folder: str):
        import transformers

        self.folder = folder
        builder: Any = transformers.AutoModelForCausalLM
        self.model = builder.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)

    def chat(self, prompt: str, system: str | None = None) -> list[int]:
        messages = [{"role": "user", "content": prompt}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    @torch.inference_mode()
    def greedy(self, prompts: Sequence[str], count: int) -> list[list[int]]:
        """transformers' `generate` for one batch, padded on the left; each row up to the end of its text."""
        ids = [self.chat(prompt) for prompt in prompts]
        longest = max(map(len, ids))
        pad = self.tokenizer.eos_token_id
        padded = torch.tensor([[pad] * (longest - len(one)) + one for one in ids])
        mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in ids])
        written = self.model.generate(
            padded, attention_mask=mask, do_sample=False, max_new_tokens=count, pad_token_id=pad,
            repetition_penalty=1.0,
        )  # fmt: skip
        rows: list[list[int]] = written[:, longest:].tolist()
        return [row[: row.index(pad) + 1] if pad in row else row for row in rows]

    @torch.inference_mode()
    def log_probs(self, prompt: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """The log-probabilities `[tokens, vocab]` that predict the tokens behind the prompt."""
        ids = torch.tensor([[*prompt, *tokens[:-1]]])
        logits = self.model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 :]
        return torch.as_tensor(logits).log_softmax(-1)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """A second thread saves little here, and where the cores are busy the two wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def reference(smollm: str) -> Reference:
    from arith.operands.gguf import converted_folder
    from arith.operands.locate import locate

    location = locate(smollm)
    assert location.gguf_file is not None
    return Reference(str(converted_folder(Path(location.source) / location.gguf_file)))


@pytest.fixture(scope="module")
def engine(smollm: str) -> Engine:
    """Two personas of one model, and the first one alone where `w` is 0."""
    operands = {"plain": LLM(smollm, dtype="float32"), "child": LLM(smollm, dtype="float32", system=CHILD)}
    return Engine(Formula("plain + w*child", **operands))


def assert_greedy_equals_generate(
    engine: Engine, reference: Reference, prompts: list[str], count: int
) -> None:
    found = engine.generate(prompts, params={"w": 0}, max_new_tokens=count, do_sample=False)
    for result, expected in zip(found, reference.greedy(prompts, count), strict=True):
        assert result.token_ids == expected


def test_greedy_equals_generate_over_64_tokens(engine: Engine, reference: Reference) -> None:
    assert_greedy_equals_generate(engine, reference, ["Tell me a story about a fox."], 64)


def test_greedy_equals_generate_for_a_padded_batch(engine: Engine, reference: Reference) -> None:
    lengths = [len(reference.chat(prompt)) for prompt in PROMPTS]
    assert max(lengths) > 4 * min(lengths)
    assert_greedy_equals_generate(engine, reference, PROMPTS, 64)


@pytest.mark.slow
def test_greedy_equals_generate_for_a_large_padded_batch(engine: Engine, reference: Reference) -> None:
    prompts = [*PROMPTS, *(f"What is {number} times {number + 3}?" for number in range(8)), LONG * 3]
    assert_greedy_equals_generate(engine, reference, prompts, 96)


def assert_equals_recomputation(
    engine: Engine,
    prompts: list[str],
    expected: Callable[[str, list[int]], Tensor],
    **options: Any,
) -> None:
    """Both what `generate` reports and what `score` finds, at each token of each row."""
    found = engine.generate(prompts, **options)
    scores = engine.score(prompts, [result.token_ids for result in found], params=options.get("params"))
    for prompt, result, score in zip(prompts, found, scores, strict=True):
        logs = expected(prompt, result.token_ids)
        values = [float(logs[position, token]) for position, token in enumerate(result.token_ids)]
        assert result.logprobs["formula"] == pytest.approx(values, abs=1e-4)
        assert score.logprobs["formula"] == pytest.approx(values, abs=1e-4)


def test_a_linear_formula_equals_a_plain_recomputation(engine: Engine, reference: Reference) -> None:
    def expected(prompt: str, tokens: list[int]) -> Tensor:
        plain = reference.log_probs(reference.chat(prompt), tokens)
        child = reference.log_probs(reference.chat(prompt, CHILD), tokens)
        return (plain + 0.6 * child).log_softmax(-1)

    assert_equals_recomputation(
        engine, PROMPTS[:2], expected, params={"w": 0.6}, max_new_tokens=10, top_p=0.9
    )


def test_a_non_linear_formula_equals_a_plain_recomputation(smollm: str, reference: Reference) -> None:
    operands = {"plain": LLM(smollm, dtype="float32"), "child": LLM(smollm, dtype="float32", system=CHILD)}
    engine = Engine(Formula("within(max(plain, 1.2*child), top_k(plain, 50))", **operands))

    def expected(prompt: str, tokens: list[int]) -> Tensor:
        plain = reference.log_probs(reference.chat(prompt), tokens)
        child = reference.log_probs(reference.chat(prompt, CHILD), tokens)
        outside = plain < plain.topk(50, dim=-1).values[:, -1:]
        return torch.maximum(plain, 1.2 * child).masked_fill(outside, -torch.inf).log_softmax(-1)

    assert_equals_recomputation(engine, PROMPTS[:2], expected, max_new_tokens=10)


@pytest.mark.parametrize(
    ("dtype", "mean", "most"),
    [
        ("bfloat16", 0.01, 0.05),
        pytest.param(None, 1e-5, 1e-4, marks=pytest.mark.skipif(not computes(CPU), reason="no such kernels")),
    ],
    ids=["bfloat16", "float16 weights"],
)
def test_with_fewer_bits_distributions_stay_close_to_those_of_float32(
    engine: Engine,
    smollm: str,
    reference: Reference,
    monkeypatch: pytest.MonkeyPatch,
    dtype: str | None,
    mean: float,
    most: float,
) -> None:
    """KL(float32 || fewer bits) in nats at every token of a text, over prompts read together."""
    monkeypatch.setattr("arith.operands.precision._cpu_has_bfloat16", lambda: False)
    operands = {"plain": LLM(smollm, dtype=dtype), "child": LLM(smollm, dtype=dtype, system=CHILD)}
    coarse = Engine(Formula("plain + w*child", **operands))
    text = reference.tokenizer("It is a large ball of hot gas.", add_special_tokens=False).input_ids
    continuations = [text[:count] for count in range(len(text))]
    for prompt in PROMPTS[:2]:
        prompts = [prompt] * len(continuations)
        expected, found = (
            one.logprobs(prompts, continuations, params={"w": 0.6}) for one in (engine, coarse)
        )
        divergence = (expected.exp() * (expected - found)).sum(-1)
        assert float(divergence.mean()) < mean
        assert float(divergence.max()) < most


@pytest.fixture(scope="module")
def half(smollm: str) -> Backbone:
    """A backbone in bfloat16."""
    return next(iter(Engine(LLM(smollm, dtype="bfloat16")).runner.models.backbones.values()))


@pytest.mark.parametrize("way", ["steps", "packed", "in slices"])
def test_in_bfloat16_each_way_through_the_cache_stays_close_to_plain_float32(
    half: Backbone, reference: Reference, way: str
) -> None:
    """KL(plain float32 || bfloat16 over the cache) in nats, at every token behind three prompts."""
    texts = [reference.chat(prompt) for prompt in (PROMPTS[0], PROMPTS[1], PROMPTS[3])]
    behind = reference.tokenizer("It is a large ball of hot gas.", add_special_tokens=False).input_ids
    counts = [len(behind), len(behind) - 1, 3]  # of the tokens behind each
    found: list[Tensor]
    with torch.inference_mode():
        if way == "in slices":
            wholes = [(*text, *behind[:count]) for text, count in zip(texts, counts, strict=True)]
            requests = [LaneRequest(None, whole, n) for whole, n in zip(wholes, counts, strict=True)]
            opening = half.begin(requests)
            while not opening.advance(16):
                pass
            found = opening.logits
        else:
            lanes, _ = half.open([LaneRequest(None, tuple(text)) for text in texts])
            if way == "packed":
                found = half.extend(lanes, [behind[:count] for count in counts])
            else:
                found = [torch.empty(0) for _ in lanes]
                for at in range(max(counts)):
                    going = [n for n, count in enumerate(counts) if at < count]
                    logits = half.step([lanes[n] for n in going], [behind[at]] * len(going))
                    for n, row in zip(going, logits, strict=True):
                        found[n] = row[None] if at == 0 else torch.cat([found[n], row[None]])
    half.reset()
    for text, count, logits in zip(texts, counts, found, strict=True):
        expected = reference.log_probs([*text, behind[0]], [*behind[1:count], 0])
        divergence = (expected.exp() * (expected - logits.float().log_softmax(-1))).sum(-1)
        assert len(divergence) == count
        assert float(divergence.mean()) < 0.01 and float(divergence.max()) < 0.05


def test_a_row_is_the_same_alone_and_among_others(engine: Engine) -> None:
    options: dict[str, Any] = {"params": {"w": -0.4}, "max_new_tokens": 12, "seed": 8, "temperature": 0.9}
    together = engine.generate(PROMPTS, **options)
    for prompt, result in zip(PROMPTS[:2], together, strict=False):
        assert engine.generate(prompt, **options)[0].token_ids == result.token_ids


@pytest.mark.slow
def test_two_adapters_and_the_bare_base_equal_a_plain_recomputation(
    smollm: str, reference: Reference, tmp_path: Path
) -> None:
    from peft import PeftModel

    targets = {"first": ["q_proj", "v_proj"], "second": "all-linear"}
    paths = {
        name: save_lora(tmp_path / name, reference.folder, seed=seed, r=4 * seed, target_modules=modules)
        for seed, (name, modules) in enumerate(targets.items(), start=1)
    }
    arms = {name: Reference(reference.folder) for name in paths}
    with warnings.catch_warnings():
        # peft reads a property that transformers has renamed.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        for name, arm in arms.items():
            arm.model = PeftModel.from_pretrained(arm.model, paths[name]).eval()
    engine = Engine(
        Formula(
            "base + 0.5*first - 0.25*second",
            base=LLM(smollm, dtype="float32"),
            first=LLM(smollm, dtype="float32", adapter=paths["first"]),
            second=LLM(smollm, dtype="float32", adapter=paths["second"]),
        )
    )

    def expected(prompt: str, tokens: list[int]) -> Tensor:
        base, first, second = (
            one.log_probs(one.chat(prompt), tokens) for one in (reference, arms["first"], arms["second"])
        )
        return (base + 0.5 * first - 0.25 * second).log_softmax(-1)

    assert_equals_recomputation(engine, PROMPTS, expected, max_new_tokens=16)
    assert len(engine.stats) == 1

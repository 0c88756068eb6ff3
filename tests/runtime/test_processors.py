"""Processors and warpers: those of transformers, in its order; the batch never changes a row's scores."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arith.errors import OptionError
from arith.runtime.options import Sampling
from arith.runtime.sampling.processors import Processors

VOCABULARY = 270
CPU: Any = torch.device("cpu")
EVERYTHING: dict[str, Any] = {
    "repetition_penalty": 1.7, "temperature": 0.6, "top_k": 40, "top_p": 0.95, "min_p": 0.01,
}  # fmt: skip
OPTIONS: list[dict[str, Any]] = [{}, *({name: value} for name, value in EVERYTHING.items()), EVERYTHING]


class Tilt:
    """A processor that doesn't commute with the others, and writes into the scores it is given."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores *= torch.linspace(0.5, 2.0, scores.shape[-1])
        return scores.sub_(input_ids.sum(dim=-1, keepdim=True) / 1000)


class Constant:
    """A processor with one answer for every row."""

    def __init__(self, answer: Tensor):
        self.answer = answer

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return self.answer


def processors(given: list[Any] | None = None, **options: Any) -> Processors:
    sampling = Sampling(**options)
    return Processors(sampling, given, sampling.greedy)


def log_probabilities(rows: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(rows, VOCABULARY, generator=generator)).log_softmax(-1)


def histories(rows: int) -> list[list[int]]:
    """Token ids of very different lengths, with repetitions."""
    return [[(7 * place * (row + 1)) % 250 for place in range(1 + 9 * row)] for row in range(rows)]


def ours_and_theirs(folder: str, given: Callable[[], list[Any]], options: dict[str, Any]) -> list[Tensor]:
    """The scores of each step of transformers' `generate`, next to ours for the same tokens.

    The model is made to give normalised log-probabilities, since that is what our processors get.
    """
    from transformers import AutoModelForCausalLM, LogitsProcessorList

    model: Any = AutoModelForCausalLM.from_pretrained(folder)

    log_probs: list[Tensor] = []

    def normalise(module: Any, arguments: Any, output: Any) -> None:
        output.logits = output.logits.log_softmax(-1)
        log_probs.append(output.logits[:, -1].clone())

    model.register_forward_hook(normalise)
    prompt = torch.tensor([[256, 72, 101, 108, 108, 111, 32, 72, 101]])
    sampling = Sampling(**options)
    settings = {"do_sample": True, "top_k": 0, "pad_token_id": 261} | options
    if sampling.greedy:
        settings = {name: value for name, value in settings.items() if name in ("do_sample", "pad_token_id")}
        settings |= {"do_sample": False, "repetition_penalty": sampling.repetition_penalty}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        output = model.generate(
            prompt, **settings, logits_processor=LogitsProcessorList(given()), max_new_tokens=6,
            eos_token_id=None, return_dict_in_generate=True, output_scores=True,
        )  # fmt: skip
    own = Processors(sampling, given(), sampling.greedy)
    tokens = output.sequences[0].tolist()
    pairs = []
    for step, (before, scores) in enumerate(zip(log_probs, output.scores, strict=True)):
        pairs.append(torch.cat([own(before, [tokens[: prompt.shape[1] + step]]), scores]))
    return pairs


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "+".join(options) or "off")
@pytest.mark.parametrize("given", [list, lambda: [Tilt()]], ids=["none", "tilt"])
def test_scores_equal_those_of_generate(
    tiny_llama: str, given: Callable[[], list[Any]], options: dict[str, Any]
) -> None:
    for own, theirs in ours_and_theirs(tiny_llama, given, options):
        assert torch.equal(own.isneginf(), theirs.isneginf())
        torch.testing.assert_close(own, theirs, rtol=1e-6, atol=1e-6)


def test_greedy_rows_get_the_penalty_and_the_processors_but_no_warper(tiny_llama: str) -> None:
    for own, theirs in ours_and_theirs(tiny_llama, lambda: [Tilt()], EVERYTHING | {"do_sample": False}):
        torch.testing.assert_close(own, theirs, rtol=1e-6, atol=1e-6)


def test_processors_of_transformers_can_be_given(tiny_llama: str) -> None:
    from transformers import MinNewTokensLengthLogitsProcessor, NoRepeatNGramLogitsProcessor
    from transformers.generation.logits_process import SuppressTokensLogitsProcessor

    def given() -> list[Any]:
        return [
            NoRepeatNGramLogitsProcessor(1),
            SuppressTokensLogitsProcessor([10, 20, 30]),
            MinNewTokensLengthLogitsProcessor(9, 3, [257]),
        ]

    pairs = ours_and_theirs(tiny_llama, given, {"temperature": 2.0})
    for own, theirs in pairs:
        assert own[[10, 20, 30, 72, 101]].isneginf().all()
        torch.testing.assert_close(own, theirs, rtol=1e-6, atol=1e-6)
    assert [bool(own[257].isneginf()) for own, _ in pairs[:3]] == [True] * 3


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "+".join(options) or "off")
@pytest.mark.parametrize("given", [[], [Tilt()]], ids=["none", "tilt"])
def test_a_row_has_the_same_scores_alone_and_in_a_batch(given: list[Any], options: dict[str, Any]) -> None:
    log_probs, tokens = log_probabilities(6), histories(6)
    log_probs[2, 50:200] = float("-inf")
    process = processors(given, **options)
    together = process(log_probs, tokens)
    for row in range(6):
        assert torch.equal(process(log_probs[row : row + 1], tokens[row : row + 1])[0], together[row])


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "+".join(options) or "off")
def test_log_probabilities_are_left_as_they_were(options: dict[str, Any]) -> None:
    log_probs = log_probabilities(3)
    before = log_probs.clone()
    processors([Tilt()], **options)(log_probs, histories(3))
    assert torch.equal(log_probs, before)


def test_with_everything_off_the_log_probabilities_themselves_come_back() -> None:
    log_probs = log_probabilities(2)
    process = processors()
    assert process(log_probs, [[], []]) is log_probs
    assert not process.need_histories
    assert not processors(temperature=0.5, top_p=0.5).need_histories
    assert processors(repetition_penalty=1.1).need_histories
    assert processors([Tilt()]).need_histories


def test_a_temperature_of_zero_is_greedy_and_divides_by_nothing() -> None:
    log_probs = log_probabilities(2)
    assert processors(temperature=0.0, top_k=3)(log_probs, [[1], [2]]) is log_probs


def test_a_temperature_too_low_to_divide_by_is_refused() -> None:
    with pytest.raises(OptionError, match="`temperature` = 1e-35: is too low"):
        Sampling.of({"temperature": 1e-35})
    assert processors(temperature=1e-30)(log_probabilities(2), [[1], [2]]).amax(dim=-1).isfinite().all()


def test_a_processor_that_gives_no_scores_back_is_named() -> None:
    def forgets(input_ids: Any, scores: Any) -> None:
        scores += 1

    with pytest.raises(OptionError, match="logits_processor: function returned None in place of scores"):
        processors([forgets])(log_probabilities(1), [[1]])


def test_a_processor_sees_one_row_and_its_own_tokens() -> None:
    seen: list[tuple[list[list[int]], list[int]]] = []

    def record(input_ids: Tensor, scores: Tensor) -> Tensor:
        assert input_ids.dtype == torch.int64
        seen.append((input_ids.tolist(), list(scores.shape)))
        return scores

    tokens = histories(3)
    processors([record])(log_probabilities(3), tokens)
    assert seen == [([history], [1, VOCABULARY]) for history in tokens]


def test_the_penalty_passes_over_tokens_outside_the_common_vocabulary() -> None:
    log_probs = log_probabilities(1)
    penalised = processors(repetition_penalty=2.0)(log_probs, [[5, VOCABULARY + 3]])
    expected = log_probs.clone()
    expected[0, 5] *= 2
    assert torch.equal(penalised, expected)


@pytest.mark.parametrize("value", [float("-inf"), float("nan"), float("inf")])
def test_a_processor_that_leaves_no_token_is_named(value: float) -> None:
    answer = log_probabilities(1)
    answer[:] = value
    with pytest.raises(OptionError, match=r"Constant left a row without a token to choose.* after 10 tokens"):
        processors([Tilt(), Constant(answer)])(log_probabilities(2), histories(2)[::-1])


def test_one_nan_among_the_scores_is_found() -> None:
    answer = log_probabilities(1)
    answer[0, 3] = float("nan")
    with pytest.raises(OptionError, match="Constant"):
        processors([Constant(answer)])(log_probabilities(1), [[1]])


def test_a_processor_that_changes_the_shape_is_named() -> None:
    with pytest.raises(OptionError, match=r"Constant turned scores of shape \[1, 270\] into \[270\]"):
        processors([Constant(torch.zeros(VOCABULARY))])(log_probabilities(1), [[1]])


@pytest.mark.parametrize("given", [Tilt(), [Tilt], [3], 3])
def test_what_is_no_list_of_processors_is_refused(given: Any) -> None:
    with pytest.raises(OptionError, match="`logits_processor` has to be a list of objects to call"):
        processors(given)


def test_a_penalty_given_twice_is_refused() -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    given = [RepetitionPenaltyLogitsProcessor(1.3)]
    with pytest.raises(OptionError, match="the repetition penalty is given twice"):
        processors(given, repetition_penalty=1.2)
    log_probs = log_probabilities(2)
    expected = processors(repetition_penalty=1.3)(log_probs, histories(2))
    assert torch.equal(processors(given)(log_probs, histories(2)), expected)


def test_a_processor_with_a_memory_of_its_batch_is_refused_by_name() -> None:
    from transformers import (
        SynthIDTextWatermarkLogitsProcessor,
        UnbatchedClassifierFreeGuidanceLogitsProcessor,
    )

    with pytest.raises(OptionError, match="SynthIDTextWatermarkLogitsProcessor keeps a memory"):
        processors([SynthIDTextWatermarkLogitsProcessor(5, [1, 2, 3], 16, 0, 1024, CPU)])
    with pytest.raises(OptionError, match="write the guidance as a formula"):
        processors([UnbatchedClassifierFreeGuidanceLogitsProcessor(1.5, torch.nn.Linear(1, 1))])

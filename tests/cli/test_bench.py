"""`arith bench`: what it reports, and that it measures what it says. No figure of time is tested."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from arith import Engine
from arith.runtime.measuring import Figure, Target, in_turn
from arith.runtime.trial import Trial, bare_model, forwards_ms, timed_forwards, weight_bytes
from tests.cli.conftest import Arith, Spec, refused
from tests.conftest import save_lora

FAST = ("--tokens", "3", "--repeats", "1")


def figures(arith: Arith, path: Path, *flags: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The figures of the last line, and the lines of the table."""
    result = arith("bench", path, *FAST, *flags)
    assert result.exit_code == 0, result.stderr
    *table, last = result.stdout.splitlines()
    found: list[dict[str, Any]] = json.loads(last)["figures"]
    return found, table


def mib(found: list[dict[str, Any]], measured: str) -> float:
    """The one figure of that name."""
    (figure,) = [one for one in found if one["measured"] == measured]
    assert figure["unit"] == "MiB"
    value: float = figure["ours"]
    return value


def test_the_last_line_is_one_json_object_and_the_lines_before_are_its_table(
    arith: Arith, spec: Spec
) -> None:
    path = spec("a - 0.5*b", a={}, b={"template": "Q: {prompt}"})
    found, table = figures(arith, path, "--rows", "1", "--rows", "3")
    assert len(table) == 2 + len(found)
    assert all(row.count("|") == table[0].count("|") for row in table)
    steps = [one for one in found if one["unit"] == "ms a step"]
    named = [(one["measured"], one["case"]) for one in steps]
    against = ("plain forwards", "forwards of the same call")
    assert named == [(one, case) for case in ("1 row", "3 rows") for one in against]
    for one in steps:
        assert one["ours"] > 0 and one["ratio"]["median"] == pytest.approx(one["ours"] / one["baseline"])
        assert one["measured"] == "plain forwards" or one["ratio"]["lowest"] > 1
    assert all(one["ours"] > 0 for one in found if one["unit"] == "tokens/s")


def test_the_memory_is_that_of_the_weights_and_of_every_lane(
    arith: Arith, spec: Spec, tiny_llama: str, tiny_llama_other: str
) -> None:
    half = {"dtype": "bfloat16"}
    one = figures(arith, spec("a", a=half), "--rows", "2")[0]
    two = figures(arith, spec("a + b", a=half, b={"model": tiny_llama_other, **half}), "--rows", "2")[0]
    shared = figures(arith, spec("a + b", a=half, b={"template": "{prompt}!", **half}), "--rows", "2")[0]
    files = [Path(model) / "model.safetensors" for model in (tiny_llama, tiny_llama_other)]
    # A file has a header of a few kilobytes and weights of 32 bits, and lacks the positions' frequencies.
    for found, sizes in ((one, files[:1]), (two, files), (shared, files[:1])):
        expected = sum(path.stat().st_size for path in sizes) / 2
        assert mib(found, "weights") * 2**20 == pytest.approx(expected, abs=8192 * len(sizes))
    cache, double = mib(one, "keys and values"), mib(shared, "keys and values")
    assert double > 2 * cache  # of two lanes, one with a longer prompt
    assert cache / 2 * 2**20 % (2 * 2 * 2 * 8 * 2) == 0  # layers, keys and values, heads, their size, bytes


def test_rows_take_the_prompts_of_the_file_in_turn_and_get_all_their_tokens(tiny_llama: str) -> None:
    from arith import LLM

    engine = Engine(LLM(tiny_llama, template="{prompt}"), max_rows=5)
    asked: list[Any] = []
    generate = engine.generate

    def noting(prompts: Any, **options: Any) -> Any:
        asked.append(list(prompts))
        return generate(prompts, **options)

    engine.generate = noting  # type: ignore[method-assign]
    timing = Trial(engine, ["one", "two"], 40).run(5)
    assert asked == [["one", "two", "one", "two", "one"]]
    assert timing.tokens == 5 * 40 and timing.steps == 39


def test_plain_forwards_run_as_many_lanes_as_the_engine_and_no_adapter(
    tiny_llama: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arith import LLM, Formula

    adapter = save_lora(tmp_path / "arm", tiny_llama, seed=1, r=4, target_modules=["q_proj", "v_proj"])
    base, arm = LLM(tiny_llama, template="{prompt}"), LLM(tiny_llama, adapter=adapter, template="{prompt}")
    trial = Trial(Engine(Formula("base + alpha*arm", base=base, arm=arm)), ["hello"], 4, {"alpha": 1.0})
    (backbone,) = trial.lanes()
    model = bare_model(backbone, 6)
    ids = torch.tensor([[5, 6, 7]]).expand(6, -1)
    reference = Engine(base)
    (plain,) = Trial(reference, ["hello"], 4).lanes()
    with torch.inference_mode():
        assert torch.equal(model(input_ids=ids).logits, bare_model(plain)(input_ids=ids).logits)
    seen: list[torch.Size] = []
    model.register_forward_pre_hook(
        lambda _module, _arguments, named: seen.append(named["input_ids"].shape), with_kwargs=True
    )
    assert trial.plain_step_ms(3) > 0
    assert seen == [(1, trial.prompt_length()), *[(6, 1)] * 3]
    seen.clear()
    trial.params = {"alpha": 0.0}  # an operand without weight doesn't run
    trial.plain_step_ms(3)
    assert seen[-1] == (3, 1)


def test_the_forwards_of_a_call_are_those_behind_its_prompts_each_once(
    tiny_llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that ticks in every forward: those of steps, and of drafted tokens that are checked."""
    from arith import LLM

    engine = Engine(LLM(tiny_llama, template="{prompt}"))
    (backbone,) = engine.runner.models.backbones.values()
    ticks = [0]
    backbone.model.register_forward_pre_hook(lambda _module, _arguments: ticks.__setitem__(0, ticks[0] + 1))
    monkeypatch.setattr("arith.runtime.trial.time.perf_counter", lambda: float(ticks[0]))
    timing, forwards_ms = Trial(engine, ["hello"], 5).run_and_forwards_ms(2)
    assert timing.steps == 4 and forwards_ms == 1e3
    drafting = Trial(Engine(LLM(tiny_llama, template="{prompt}"), speculate="prompt_lookup"), ["ab ab ab"], 5)
    (backbone,) = drafting.lanes()
    backbone.model.register_forward_pre_hook(lambda _module, _arguments: ticks.__setitem__(0, ticks[0] + 1))
    before = backbone.stats.forwards
    timing, forwards_ms = drafting.run_and_forwards_ms(1)
    assert forwards_ms == pytest.approx(1e3 * (backbone.stats.forwards - before - 1) / timing.steps)


def test_forwards_of_drafts_and_of_models_without_a_cache_are_counted_once(
    tiny_llama: str, tiny_mamba: str
) -> None:
    from arith import LLM, Formula

    small, large = (LLM(model, template="{prompt}") for model in (tiny_llama, tiny_mamba))
    engine = Engine(Formula("supersede(small, large)", small=small, large=large), speculate={"tokens": 2})
    spent: list[float] = []
    for backbone in dict.fromkeys(engine.runner.models.backbones.values()):
        backbone.model.register_forward_pre_hook(lambda _module, _arguments: spent.append(1.0))
    backbones = list(dict.fromkeys(engine.runner.models.backbones.values()))
    with timed_forwards(backbones) as laps:
        engine.generate("hello", max_new_tokens=6)
    stats = [backbone.stats for backbone in backbones]
    assert 0 < len(laps) < len(spent) and all(one.forwards for one in stats)


def test_forwards_without_a_cache_run_whole_texts(tiny_llama: str) -> None:
    from arith import LLM

    (backbone,) = Trial(Engine(LLM(tiny_llama, template="{prompt}")), ["hello"], 2).lanes()
    model, seen = bare_model(backbone), list[torch.Size]()
    model.register_forward_pre_hook(
        lambda _module, _arguments, named: seen.append(named["input_ids"].shape), with_kwargs=True
    )
    forwards_ms(model, 2, 5, 2, cached=False)
    assert seen == [(1, 6), (1, 6), (1, 7), (1, 7)]


def test_shared_weights_count_once() -> None:
    one, other = torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False)
    other.weight = one.weight
    assert weight_bytes(one, other) == 64


def test_what_is_compared_takes_turns_in_going_first() -> None:
    order: list[str] = []

    def way(name: str, values: list[float]) -> Any:
        def run() -> float:
            order.append(name)
            return values[order.count(name) - 1]

        return run

    found = in_turn(way("a", [9, 1, 2, 3]), way("b", [9, 2, 2, 2]), repeats=3)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert found == ((1, 2, 3), (2, 2, 2))  # without the warm-up
    figure = Figure.of("x", "y", "ms", *found, Target("<=", 1.0))
    assert figure.ratio is not None
    assert (figure.ratio.lowest, figure.ratio.median, figure.ratio.highest) == (0.5, 1.0, 1.5)
    assert figure.met and "<= 1: yes" in figure.cells()
    assert not Figure("x", "y", "tokens", 1.5, target=Target(">=", 2)).met


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--rows", "0"], ["--rows 0", "at least 1"]),
        (["--tokens", "1"], ["--tokens 1", "at least 2"]),
        (["--repeats", "0"], ["--repeats 0", "at least 1"]),
        (["--param", "beta=1"], ["beta"]),
    ],
)
def test_what_can_not_be_measured_is_refused(
    arith: Arith, spec: Spec, flags: list[str], words: list[str]
) -> None:
    refused(arith("bench", spec(), *flags), *words)


def test_tokens_beyond_the_window_are_refused_before_anything_runs(arith: Arith, spec: Spec) -> None:
    refused(
        arith("bench", spec(), "--tokens", "9000"), "the prompt:", "9000 more follow", "context window is"
    )

"""Results as they come: pieces, finished rows, transformers' streamer, and one call at a time."""

import gc
from typing import Any

import pytest
from transformers import TextStreamer
from transformers.generation.streamers import BaseStreamer

from arith import Engine, Formula, OptionError
from arith.runtime.row import Row
from tests.runtime.reference import Script, plain, raw

PROMPTS = ["the rain", "a", "Once upon a time there was another"]
OPTIONS: dict[str, Any] = {
    "max_new_tokens": 30,
    "seed": 7,
    "stop_strings": ["e", "a", "9"],
    "num_return_sequences": 2,
}


@pytest.fixture(scope="module")
def engine(tiny_llama: str, lora_a: str) -> Engine:
    return Engine(Formula("a + 0.5*b", a=raw(tiny_llama), b=raw(tiny_llama, lora_a)), max_rows=2)


def test_pieces_make_up_the_results(engine: Engine) -> None:
    whole = engine.generate(PROMPTS, **OPTIONS)
    text = {(one.index, one.sample): "" for one in whole}
    tokens: dict[tuple[int, int], list[int]] = {key: [] for key in text}
    done = {}
    for piece in engine.stream(PROMPTS, **OPTIONS):
        key = (piece.index, piece.sample)
        assert key not in done, "nothing comes behind a row's last piece"
        text[key] += piece.text
        tokens[key] += piece.token_ids
        if piece.result is not None:
            done[key] = piece.result
    assert list(done) != sorted(done), "rows end in another order than they were given"
    for result in whole:
        key = (result.index, result.sample)
        assert text[key] == result.text == done[key].text
        assert tokens[key] == result.token_ids
        assert done[key].finish_reason == result.finish_reason


def test_pieces_hold_characters_back_until_they_are_whole(engine: Engine) -> None:
    """Ω and 😀 are two and four tokens; the row ends in the middle of another Ω."""
    script = [*"Ω".encode(), 97, *"😀".encode(), 0xCE]
    pieces = list(engine.stream("on", logits_processor=[Script(2, script)], max_new_tokens=len(script)))
    assert [piece.text for piece in pieces] == ["", "Ω", "a", "", "", "", "😀", "\ufffd"]
    assert pieces[-1].result is not None and pieces[-1].result.text == "Ωa😀\ufffd"


def test_results_come_when_their_rows_end(engine: Engine) -> None:
    whole = {(one.index, one.sample): one for one in engine.generate(PROMPTS, **OPTIONS)}
    found = list(engine.as_completed(PROMPTS, **OPTIONS))
    order = [(one.index, one.sample) for one in found]
    assert sorted(order) == sorted(whole) and order != sorted(order)
    assert all(one.token_ids == whole[one.index, one.sample].token_ids for one in found)


def test_timings_are_of_the_row(engine: Engine) -> None:
    for result in engine.generate(PROMPTS, **OPTIONS):
        assert set(result.timings) == {"queued", "prefill", "decode"}
        assert all(0 <= seconds < 60 for seconds in result.timings.values())
        assert result.tokens_per_second > 0


def test_a_text_streamer_prints_what_generate_returns(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    with_prompt: Any = TextStreamer(engine.tokenizer)
    result = engine.generate("the rain", streamer=with_prompt, max_new_tokens=12, seed=1)[0]
    shown = engine.tokenizer.decode([*plain(engine_model(engine)).raw("the rain"), *result.token_ids])
    assert capsys.readouterr().out == f"{shown}\n"
    without: Any = TextStreamer(engine.tokenizer, skip_prompt=True, skip_special_tokens=True)
    engine.generate("the rain", streamer=without, max_new_tokens=12, seed=1)
    assert capsys.readouterr().out == f"{result.text}\n"


def engine_model(engine: Engine) -> str:
    return next(iter(engine.operands.values())).model


class Recorder(BaseStreamer):
    def __init__(self) -> None:
        self.values: list[list[int]] = []
        self.ended = 0

    def put(self, value: Any) -> None:
        self.values.append(value.flatten().tolist())

    def end(self) -> None:
        self.ended += 1


def test_a_streamer_gets_the_prompt_and_then_each_token(engine: Engine) -> None:
    recorder = Recorder()
    result = engine.generate("on", streamer=recorder, max_new_tokens=5)[0]
    prompt = plain(engine_model(engine)).raw("on")
    assert recorder.values == [prompt, *([token] for token in result.token_ids)]
    assert recorder.ended == 1


def test_rows_that_are_wanted_run_alone_and_are_what_they_are_in_a_run_of_all(engine: Engine) -> None:
    """The work is counted: a lane runs its prompt, and each token but its last."""
    prompts = ["on", "the rain", "on", "on"]
    options: dict[str, Any] = {"max_new_tokens": 6, "num_return_sequences": 3, "seed": 4}
    whole = {(one.index, one.sample): one.token_ids for one in engine.generate(prompts, **options)}
    assert len({tuple(tokens) for tokens in whole.values()}) == 12
    for wanted in ({(2, 1)}, {(3, 2), (0, 0), (1, 1)}, set()):
        engine.stats.reset()
        found = {
            (one.index, one.sample): one.token_ids
            for one in engine.as_completed(prompts, wanted=wanted, **options)
        }
        assert found == {place: whole[place] for place in wanted}
        steps = sum(len(tokens) - 1 for tokens in found.values())
        most = sum(len(plain(engine_model(engine)).raw(prompts[index])) for index, _ in wanted)
        lanes = len(engine.operands)
        assert lanes * steps < engine.stats.tokens_useful <= lanes * (steps + most) or not wanted


def test_a_streamer_of_two_rows_is_refused(engine: Engine) -> None:
    for call in ({"prompts": ["a", "b"]}, {"prompts": "a", "num_return_sequences": 2}):
        with pytest.raises(OptionError, match="one row"):
            engine.generate(streamer=Recorder(), **call)


def test_mistakes_are_raised_by_the_call_and_not_by_the_first_piece(engine: Engine) -> None:
    with pytest.raises(OptionError):
        engine.stream("a", max_new_tokens=-1)
    with pytest.raises(OptionError):
        engine.as_completed("a", top_k=-1)


def test_two_calls_at_once_are_refused(engine: Engine) -> None:
    expected = engine.generate("the rain", max_new_tokens=6)[0]
    pieces = engine.stream("the rain", max_new_tokens=6)
    first = next(pieces)
    for call in (
        lambda: engine.generate("b", max_new_tokens=1),
        lambda: engine.score("b", "c"),
        lambda: engine.logprobs("b", "c"),
        lambda: next(engine.stream("b", max_new_tokens=1)),
    ):
        with pytest.raises(OptionError, match="at work"):
            call()
    rest = list(pieces)
    assert [*first.token_ids, *(t for piece in rest for t in piece.token_ids)] == expected.token_ids
    assert engine.generate("the rain", max_new_tokens=6)[0].token_ids == expected.token_ids


def test_an_abandoned_stream_leaves_the_engine_usable(engine: Engine) -> None:
    expected = engine.generate(PROMPTS, **OPTIONS)
    for steps in (0, 1, 5):
        pieces = engine.stream(PROMPTS, **OPTIONS)
        for _ in range(steps):
            next(pieces)
        pieces.close()  # type: ignore[attr-defined]
        assert [one.token_ids for one in engine.generate(PROMPTS, **OPTIONS)] == [
            one.token_ids for one in expected
        ]
    for _ in engine.stream(PROMPTS, **OPTIONS):
        break
    assert engine.generate("on", max_new_tokens=1)


def test_rows_that_have_ended_are_let_go(engine: Engine) -> None:
    """A long call holds the rows in flight and those that wait, and not all that it has written."""
    prompts = [f"prompt {number}" for number in range(12)]
    for ended, _ in enumerate(engine.as_completed(prompts, max_new_tokens=2), start=1):
        gc.collect()
        alive = sum(type(one) is Row for one in gc.get_objects())
        assert alive <= len(prompts) - ended + 2  # those that ended in one step

"""A pairwise judge: sides swapped, nothing asked twice, nothing lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from arith.errors import EndpointError, OptionError
from arith.study.judging import endpoint
from arith.study.judging.cache import ReplyCache
from arith.study.judging.cost import tokens_of
from arith.study.judging.keys import JudgeKeys
from arith.study.judging.pairwise import Pair, PairwiseJudge
from tests.study.stand_in import Answer, Body, StandIn, answers_in, by_length, chat, failure

ROOT = Path(__file__).resolve().parents[2]
PAIRS = [Pair("Hi", "a" * (1 + number), "b" * (4 + number % 3)) for number in range(8)]


def keys_of(server: StandIn, **given: Any) -> JudgeKeys:
    return JudgeKeys.model_validate({"url": server.url, "model": "m", "criterion": "overall", **given})


def outcomes(judge: PairwiseJudge, pairs: list[Pair]) -> list[str]:
    found = dict(judge.judge(pairs))
    assert sorted(found) == list(range(len(pairs)))
    return [found[index].outcome for index in range(len(pairs))]


def expected(pairs: list[Pair], bias: float = 0.0) -> list[str]:
    """What `by_length` says where only the order (first, second) is asked."""
    margins = [min(len(pair.first), 8) + bias - min(len(pair.second), 8) for pair in pairs]
    return ["tie" if margin == 0 else "win" if margin > 0 else "lose" for margin in margins]


def test_both_orders_cancel_what_the_place_is_worth(tmp_path: Path) -> None:
    with StandIn(by_length(bias=1.5)) as server:
        both = outcomes(PairwiseJudge(keys_of(server), tmp_path), PAIRS)
        assert both == expected(PAIRS) and set(both) == {"win", "tie", "lose"}
        assert len(server.bodies) == 2 * len(PAIRS)
        alone = outcomes(PairwiseJudge(keys_of(server, swap="none"), tmp_path), PAIRS)
        assert alone == expected(PAIRS, 1.5) != both
        assert len(server.bodies) == 2 * len(PAIRS)  # one of both orders was asked before


def test_random_orders_are_fixed_by_the_seed_and_seen_from_the_first_side(tmp_path: Path) -> None:
    pairs = [Pair(f"prompt {number}", "aaa", "bb") for number in range(64)]
    orders = []
    for seed in (0, 0, 1):
        with StandIn(by_length()) as server:
            judge = PairwiseJudge(
                keys_of(server, swap="random", seed=seed, cache=f"{server.url[-8:-3]}"), tmp_path
            )
            assert outcomes(judge, pairs) == ["win"] * 64
            swapped = {
                body["messages"][0]["content"].split("prompt ")[1].split()[0]: answers_in(body)[0] == "bb"
                for body in server.bodies
            }
            orders.append(swapped)
    assert orders[0] == orders[1] != orders[2]
    assert 16 < sum(orders[0].values()) < 48


def test_a_request_holds_the_settings_and_the_cut_answers(tmp_path: Path) -> None:
    settings = {
        "temperature": 0.7,
        "cut_at": ["Human:", "\n\nUser"],
        "extra_body": {"max_tokens": None, "max_completion_tokens": 99, "top_p": 0.5},
        "swap": "none",
    }
    with StandIn(by_length()) as server:
        judge = PairwiseJudge(keys_of(server, **settings), tmp_path)
        pair = Pair([{"role": "user", "content": "Hi"}], " Hello. \n\nHuman: and", "x\n\nUser: Human:")
        assert [one.outcome for _, one in judge.judge([pair])] == ["win"]
        body = server.bodies[0]
    assert answers_in(body) == ("Hello.", "x") and "User: Hi" in body["messages"][0]["content"]
    del body["messages"]
    assert body == {"model": "m", "temperature": 0.7, "max_completion_tokens": 99, "top_p": 0.5}


def test_nothing_is_paid_for_twice(tmp_path: Path) -> None:
    with StandIn(by_length()) as server:
        judge = PairwiseJudge(keys_of(server), tmp_path)
        equal = [*PAIRS, *PAIRS, Pair("Hi", PAIRS[0].second, PAIRS[0].first)]
        assert judge.estimate(equal).requests == 2 * len(PAIRS)
        first = outcomes(judge, equal)
        assert len(server.bodies) == 2 * len(PAIRS) and first[0] == "lose" and first[-1] == "win"
        again = PairwiseJudge(keys_of(server), tmp_path)
        estimate = again.estimate(equal)
        assert (estimate.requests, estimate.known) == (0, 2 * len(PAIRS))
        assert outcomes(again, equal) == first and len(server.bodies) == 2 * len(PAIRS)
        outcomes(PairwiseJudge(keys_of(server, temperature=0.5), tmp_path), PAIRS[:1])
        assert len(server.bodies) == 2 * len(PAIRS) + 2


def test_refusals_and_answers_without_ratings_are_counted_and_kept(tmp_path: Path) -> None:
    def answer(body: Body) -> Answer:
        first, second = answers_in(body)
        if "c" in (first + second):
            return chat(None, finish_reason="content_filter")
        return chat("I like both.") if "d" in (first + second) else by_length()(body)

    pairs = [Pair("Hi", "aa", "b"), Pair("Hi", "c", "b"), Pair("Hi", "d", "b")]
    with StandIn(answer) as server:
        judge = PairwiseJudge(keys_of(server), tmp_path)
        assert outcomes(judge, pairs) == ["win", "undetermined", "undetermined"]
        assert "undetermined: 2" in judge.summary() and "win: 1" in judge.summary()
        assert outcomes(PairwiseJudge(keys_of(server), tmp_path), pairs)[1:] == ["undetermined"] * 2
        assert len(server.bodies) == 6


def test_what_passes_is_tried_again_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)
    troubles = [failure(429, Retry_After="0.05"), Answer(b"<html>"), failure(500), Answer(drop=True)]

    def answer(body: Body) -> Answer:
        return troubles.pop() if troubles else by_length()(body)

    with StandIn(answer) as server:
        judge = PairwiseJudge(keys_of(server), tmp_path)
        assert outcomes(judge, PAIRS) == expected(PAIRS)
        told = judge.summary()
    assert all(f"{what}: 1" in told for what in ("rate limits", "broken answers", "dropped connections"))
    assert f"{2 * len(PAIRS)} replies, 1,600 tokens of input and 160 of output" in told


def test_an_endpoint_that_gives_out_keeps_what_was_done(tmp_path: Path) -> None:
    def answer(body: Body) -> Answer:
        return failure(401, "key expired") if len(server.bodies) > 5 else by_length()(body)

    with StandIn(answer) as server:
        judge = PairwiseJudge(keys_of(server, concurrency=1), tmp_path)
        with pytest.raises(EndpointError, match=r"wants a key: 401 unauthorized \(key expired") as error:
            list(judge.judge(PAIRS))
        assert "5 of 16 replies came and are kept in" in error.value.message
        assert "the same command goes on" in error.value.message
        server.answers = by_length()
        assert outcomes(PairwiseJudge(keys_of(server), tmp_path), PAIRS) == expected(PAIRS)
        # Of those that failed: one was told, and at most one more was sent before all stopped.
        assert 6 + 11 <= len(server.bodies) <= 6 + 1 + 11


def test_requests_go_out_together_but_not_more_than_allowed(tmp_path: Path) -> None:
    def answer(body: Body) -> Answer:
        return Answer(by_length()(body).content, delay=0.05)

    with StandIn(answer) as server:
        outcomes(PairwiseJudge(keys_of(server, concurrency=3), tmp_path), PAIRS)
        assert server.most == 3


def test_the_cost_is_known_before_and_can_be_refused(tmp_path: Path) -> None:
    """Each question is about a quarter as many tokens as it has bytes; a reply has 100 tokens at most."""
    price = {"price": {"input": 2.0, "output": 10.0}, "max_tokens": 100, "swap": "none"}
    with StandIn(by_length()) as server:
        judge = PairwiseJudge(keys_of(server, **price), tmp_path)
        estimate = judge.estimate(PAIRS[:3])
        list(judge.judge(PAIRS[:3]))
        sizes = [len(body["messages"][0]["content"].encode()) for body in server.bodies]
        tokens = sum(size / 4 for size in sizes)
        assert estimate.requests == 3 and estimate.output_tokens == 300
        assert tokens <= estimate.input_tokens < tokens + 3
        assert estimate.cost == pytest.approx((estimate.input_tokens * 2 + 300 * 10) / 1e6)
        assert f"{estimate.cost:.4g}" in str(estimate)
        small = PairwiseJudge(keys_of(server, **price, max_cost=0.0001), tmp_path)
        with pytest.raises(OptionError, match=r"`max_cost` is 0\.0001"):
            small.estimate(PAIRS)
        # The endpoint counts 100 tokens of input and 10 of output a reply.
        assert f"a cost of {3 * (100 * 2 + 10 * 10) / 1e6:.4g}" in judge.summary()
        assert len(server.bodies) == 3


def test_only_what_is_to_be_asked_needs_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "secret")
    with StandIn(by_length()) as server:
        keys = keys_of(server, key_env="JUDGE_KEY")
        found = outcomes(PairwiseJudge(keys, tmp_path), PAIRS[:4])
        monkeypatch.delenv("JUDGE_KEY")
        judge = PairwiseJudge(keys, tmp_path)
        assert judge.estimate(PAIRS[:4]).requests == 0 and outcomes(judge, PAIRS[:4]) == found
        asked = len(server.bodies)
        with pytest.raises(EndpointError, match="JUDGE_KEY"):
            judge.estimate(PAIRS)
        assert len(server.bodies) == asked


def test_where_the_endpoint_tells_no_tokens_no_cost_is_made_up(tmp_path: Path) -> None:
    def answer(body: Body) -> Answer:
        whole = json.loads(by_length()(body).content)
        return Answer(json.dumps({"choices": whole["choices"]}).encode())

    with StandIn(answer) as server:
        judge = PairwiseJudge(keys_of(server, price={"input": 2.0, "output": 10.0}, max_tokens=9), tmp_path)
        outcomes(judge, PAIRS[:1])
    assert "the endpoint doesn't tell the tokens" in judge.summary() and "cost" not in judge.summary()


def test_a_text_of_other_letters_has_more_tokens_than_a_quarter_of_its_bytes() -> None:
    assert tokens_of("four") == 1 and tokens_of("five5") == 2 and tokens_of("") == 0
    assert tokens_of("你好吗我很好") == 9  # tokenizers make one or two of such a letter
    assert tokens_of("naïve") == 2


def test_a_killed_judge_pays_for_no_reply_twice(tmp_path: Path) -> None:
    """Killed again and again, as a rule in the middle: each request is answered once but for those which were
    on their way when it was killed."""
    config = tmp_path / "judge.json"
    code = (
        "import json, sys; from pathlib import Path\n"
        "from arith.study.judging.keys import JudgeKeys\n"
        "from arith.study.judging.pairwise import Pair, PairwiseJudge\n"
        "keys = JudgeKeys.model_validate(json.loads(Path(sys.argv[1]).read_text()))\n"
        "pairs = [Pair(f'prompt {n}', 'aaa', 'bb') for n in range(200)]\n"
        "found = list(PairwiseJudge(keys, Path(sys.argv[1]).parent).judge(pairs))\n"
        "print(sum(one.outcome == 'win' for _, one in found))"
    )

    def answer(body: Body) -> Answer:
        return Answer(by_length()(body).content, delay=0.01)

    kills = 0
    with StandIn(answer) as server:
        config.write_text(keys_of(server, concurrency=2, swap="none").model_dump_json())
        for wanted in (5, 40, 80, 120):
            process = subprocess.Popen([sys.executable, "-c", code, str(config)], cwd=ROOT)
            while len(server.bodies) < wanted and process.poll() is None:
                time.sleep(0.002)
            os.kill(process.pid, signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
        with (tmp_path / "judge_cache.jsonl").open("ab") as cache:
            cache.write(b'{"request": "torn')
        done = subprocess.run(
            [sys.executable, "-c", code, str(config)], cwd=ROOT, capture_output=True, text=True
        )
        assert done.stdout.strip() == "200" and kills == 4, done.stderr
        assert 200 <= len(server.bodies) <= 200 + 2 * kills
    lines = (tmp_path / "judge_cache.jsonl").read_text().splitlines()
    assert len({json.loads(line)["request"] for line in lines}) == len(lines) == 200


def test_what_other_processes_have_appended_is_not_asked_again(tmp_path: Path) -> None:
    """Another judge, with a cache of its own as in another process, has asked the second half meanwhile."""
    with StandIn(by_length()) as server:
        keys = keys_of(server, swap="none", concurrency=1)
        first, second = PairwiseJudge(keys, tmp_path), PairwiseJudge(keys, tmp_path)
        second.cache = ReplyCache(second.cache.path)
        assert first.estimate(PAIRS).requests == len(PAIRS)
        list(second.judge(PAIRS[4:]))
        assert outcomes(first, PAIRS) == expected(PAIRS)
        assert len(server.bodies) == len(PAIRS)
    lines = (tmp_path / "judge_cache.jsonl").read_text().splitlines()
    assert len({json.loads(line)["request"] for line in lines}) == len(lines) == len(PAIRS)

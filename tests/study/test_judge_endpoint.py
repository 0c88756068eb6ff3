"""The client of chat endpoints: what fails in passing is tried again, what doesn't is told in one message."""

import email.utils
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from arith.errors import EndpointError
from arith.study.judging import endpoint as module
from arith.study.judging.endpoint import Endpoint
from tests.study.stand_in import Answer, Body, StandIn, chat, failure

BODY = {"model": "m", "messages": [{"role": "user", "content": "Grüße \ud83d"}]}
DROP = Answer(drop=True)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT", 0.01)


def in_turn(*answers: Answer) -> Callable[[Body], Answer]:
    left: Iterator[Answer] = itertools.chain(answers[:-1], itertools.repeat(answers[-1]))
    return lambda body: next(left)


def asked(url: str, *, retries: int = 3, timeout: float = 5.0, key_env: str | None = None) -> Endpoint:
    return Endpoint(url, key_env=key_env, timeout=timeout, retries=retries)


def test_a_request_is_that_of_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", " sk-1\n")
    with StandIn(in_turn(chat("yes"))) as server:
        for url in (server.url, f"{server.url}/", f"{server.url}/chat/completions"):
            reply = asked(url, key_env="JUDGE_KEY").ask(BODY)
            assert (reply.text, reply.input_tokens, reply.output_tokens) == ("yes", 100, 10)
        assert set(server.paths) == {"/v1/chat/completions"} and server.bodies == [BODY] * 3
        assert server.headers[0]["Authorization"] == "Bearer sk-1"
        asked(server.url).ask(BODY)
        assert "Authorization" not in server.headers[-1]


@pytest.mark.parametrize(
    ("trouble", "cause"),
    [
        (failure(429), "rate limits"),
        (failure(500), "server errors"),
        (failure(503, Retry_After="0"), "server errors"),
        (Answer(b"{"), "broken answers"),
        (Answer(b'{"choices": []}'), "broken answers"),
        (chat(None), "broken answers"),
        (DROP, "dropped connections"),
        (Answer(chat("late").content, delay=1.2), "timeouts"),
    ],
)
def test_what_fails_in_passing_is_tried_again_and_counted(trouble: Answer, cause: str) -> None:
    with StandIn(in_turn(trouble, trouble, chat("at last"))) as server:
        client = asked(server.url, timeout=0.6)
        assert client.ask(BODY).text == "at last"
        assert client.troubles == {cause: 2} and len(server.bodies) == 3


@pytest.mark.parametrize("trouble", [failure(429, "slow down"), failure(502), Answer(b"<html>"), DROP])
def test_what_goes_on_failing_ends_after_the_retries(trouble: Answer) -> None:
    with StandIn(in_turn(trouble)) as server:
        with pytest.raises(EndpointError, match="3 times in a row") as error:
            asked(server.url, retries=2).ask(BODY)
        assert len(server.bodies) == 3 and server.url in error.value.message


def test_retry_after_is_obeyed_by_all_threads() -> None:
    with StandIn(in_turn(failure(429, Retry_After="0.4"), chat("now"))) as server:
        client = asked(server.url)
        threads = [threading.Thread(target=client.ask, args=(BODY,)) for _ in range(3)]
        threads[0].start()
        while client.troubles["rate limits"] == 0:
            time.sleep(0.005)
        for thread in threads[1:]:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(server.times) == 4 and min(server.times[1:]) - server.times[0] >= 0.4


def test_retry_after_may_be_a_date() -> None:
    soon = email.utils.formatdate(time.time() + 2, usegmt=True)
    with StandIn(in_turn(failure(429, Retry_After=soon), chat("now"))) as server:
        asked(server.url).ask(BODY)
        assert server.times[1] - server.times[0] > 0.9  # a date has no fractions of seconds


@pytest.mark.parametrize("after", ["0", "Sun, 06 Nov 1994 08:49:37 GMT"])
def test_without_a_time_to_come_waits_double_as_without_any(
    after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT", 0.2)
    with StandIn(in_turn(failure(429, Retry_After=after), chat("now"))) as server:
        asked(server.url).ask(BODY)
        assert server.times[1] - server.times[0] >= 0.1


def test_an_hour_is_not_waited_for() -> None:
    with StandIn(in_turn(failure(429, Retry_After="3600"))) as server:
        with pytest.raises(EndpointError, match="asks to wait 3600 seconds"):
            asked(server.url).ask(BODY)
        assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (failure(401, "Incorrect API key"), ["refuses the key in JUDGE_KEY", "401", "Incorrect API key"]),
        (failure(403), ["refuses the key in JUDGE_KEY"]),
        (failure(404, "no model m"), ["404", "no model m", "`model`"]),
        (failure(400, "temperature is not supported"), ["400", "temperature is not supported"]),
        (failure(429, "pay", code="insufficient_quota"), ["the account is used up", "pay"]),
        (Answer(b"", 302, {"Location": "http://127.0.0.1:9/x"}), ["leads on to http://127.0.0.1:9/x"]),
        (Answer(b"no json", 418), ["418"]),
    ],
)
def test_what_stays_as_it_is_is_told_at_once(
    trouble: Answer, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "secret-key")
    with StandIn(in_turn(trouble)) as server:
        with pytest.raises(EndpointError) as error:
            asked(server.url, key_env="JUDGE_KEY").ask(BODY)
        assert len(server.bodies) == 1
        assert all(word in str(error.value) for word in words) and "secret-key" not in str(error.value)


def test_a_key_that_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(EndpointError, match="JUDGE_KEY, which `key_env` names, isn't set"):
        asked("http://x", key_env="JUDGE_KEY").ask(BODY)
    monkeypatch.setenv("JUDGE_KEY", "two\nlines")
    with pytest.raises(EndpointError, match="JUDGE_KEY holds what can't be a key") as error:
        asked("http://x", key_env="JUDGE_KEY").ask(BODY)
    assert "lines" not in str(error.value)
    with StandIn(in_turn(failure(401))) as server, pytest.raises(EndpointError, match="wants a key") as error:
        asked(server.url).ask(BODY)
    assert "`key_env`" in str(error.value)


@pytest.mark.parametrize(
    "answer",
    [
        chat(None, finish_reason="content_filter"),
        chat(None, message={"content": None, "refusal": "I can't help with that"}),
        failure(400, "filtered", code="content_filter"),
        failure(400, "This model's maximum context length is 8192 tokens."),
        failure(400, "Input tokens exceed the configured limit of 272000 tokens."),
        failure(400, "the request exceeds the available context size, try increasing it"),
        failure(400, "too many", code="context_length_exceeded"),
        Answer(b'{"error": {"code": 400, "message": "no", "type": "exceed_context_size_error"}}', 400),
    ],
)
def test_a_refusal_is_a_reply_without_text(answer: Answer) -> None:
    with StandIn(in_turn(answer)) as server:
        assert asked(server.url).ask(BODY).text is None
        assert len(server.bodies) == 1


def test_half_a_character_is_made_whole() -> None:
    with StandIn(in_turn(chat("A \ud83d B"))) as server:
        assert asked(server.url).ask(BODY).text == "A ? B"


def test_a_host_that_was_never_there_is_told_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = asked(f"http://127.0.0.1:{port}/v1", retries=5)
    with pytest.raises(EndpointError, match="can't be reached: connection refused") as error:
        client.ask(BODY)
    assert client.troubles == {"unreachable": 1} and "`url`" in str(error.value)


def test_closing_wakes_those_who_wait() -> None:
    with StandIn(in_turn(failure(429, Retry_After="60"))) as server:
        client = asked(server.url)
        ended: list[str] = []

        def ask() -> None:
            with pytest.raises(EndpointError, match="stopped") as error:
                client.ask(BODY)
            ended.append(error.value.message)

        thread = threading.Thread(target=ask)
        thread.start()
        while client.troubles["rate limits"] == 0:
            time.sleep(0.005)
        client.close()
        thread.join(timeout=5)
        assert ended and not thread.is_alive()

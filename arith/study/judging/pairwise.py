"""A judge that compares answers in pairs."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arith.errors import EndpointError, OptionError
from arith.study.judging.cache import ReplyCache, request_key
from arith.study.judging.cost import Estimate, Usage, in_words, tokens_of
from arith.study.judging.criteria import dialogue, filled, template_of
from arith.study.judging.endpoint import Endpoint
from arith.study.judging.keys import JudgeKeys
from arith.study.judging.verdict import Judgement, ratings_in

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, which is a text or a list of messages."""

    prompt: str | Sequence[Mapping[str, str]]
    first: str
    second: str


@dataclass(frozen=True)
class Question:
    """A request about a pair. `swapped`: its second answer stands first."""

    body: Body
    key: str
    swapped: bool


class PairwiseJudge:
    """Compares answers by a model behind an endpoint; what the cache holds isn't asked again.

    folder: the relative paths of the keys are seen from it.

    Raises `SpecError` for a question or a cache that can't be used.
    """

    def __init__(self, keys: JudgeKeys, folder: Path):
        self.keys = keys
        self.template = template_of(keys, folder)
        self.endpoint = Endpoint(keys.url, key_env=keys.key_env, timeout=keys.timeout, retries=keys.retries)
        self.cache = ReplyCache.at(folder / Path(keys.cache).expanduser())
        self.usage = Usage(keys.price)
        self.outcomes: Counter[str] = Counter()

    def cut(self, answer: str) -> str:
        """The answer as it is judged: up to where the first of `cut_at` begins, without space around it."""
        ends = [place for mark in self.keys.cut_at if (place := answer.find(mark)) >= 0]
        return answer[: min(ends, default=len(answer))].strip()

    def estimate(self, pairs: Sequence[Pair]) -> Estimate:
        """What comparing these pairs takes. Raises `OptionError` where it could cost more than `max_cost`,
        and `EndpointError` where something is to be asked and the environment lacks the key."""
        asked = {one.key: one.body for pair in pairs for one in self._questions(pair)}
        new = [body for key, body in asked.items() if key not in self.cache]
        found = self._estimate(new, known=len(asked) - len(new))
        most = self.keys.max_cost
        if most is not None and found.cost is not None and found.cost > most:
            raise OptionError(
                f"judging takes {found}, and `max_cost` is {most:g}", "judge fewer rows at first"
            )
        if new:
            self.endpoint.refuse_without_key()
        return found

    def prices(self, pairs: Sequence[Pair]) -> dict[Hashable, float]:
        """What each request that comparing these pairs takes costs at most; nothing without a price. Judges
        with one cache share their requests: these have the same keys."""
        found: dict[Hashable, float] = {}
        for one in (one for pair in pairs for one in self._questions(pair) if one.key not in self.cache):
            cost = self._estimate([one.body]).cost
            if cost is not None:
                found[self.cache.path, one.key] = cost
        return found

    def _estimate(self, bodies: Sequence[Body], known: int = 0) -> Estimate:
        limit = self.keys.output_limit
        return Estimate(
            requests=len(bodies),
            known=known,
            input_tokens=sum(tokens_of(body["messages"][0]["content"]) for body in bodies),
            output_tokens=None if limit is None else limit * len(bodies),
            price=self.keys.price,
        )

    def judge(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Judgement]]:
        """The place in `pairs` and the judgement of each, as they are done.

        A request that several pairs share is sent once. Raises `EndpointError` where the endpoint gives out:
        replies so far are in the cache, and those on their way are waited for and kept.
        """
        asked = [self._questions(pair) for pair in pairs]
        sharing: dict[str, list[int]] = defaultdict(list)  # pairs that wait for a request
        left: Counter[int] = Counter()  # requests that a pair waits for
        bodies: dict[str, Body] = {}
        for index, questions in enumerate(asked):
            lacking = {one.key: one.body for one in questions if one.key not in self.cache}
            if not lacking:
                yield index, self._judgement(questions)
            bodies.update(lacking)
            left[index] = len(lacking)
            for key in lacking:
                sharing[key].append(index)
        for key in self._replied(bodies):
            for index in sharing[key]:
                left[index] -= 1
                if not left[index]:
                    yield index, self._judgement(asked[index])

    def summary(self) -> str:
        """What was asked, what went wrong on the way, and how it came out."""
        parts = [str(self.usage), in_words(self.outcomes)]
        if self.endpoint.troubles:
            parts.append(f"met with {in_words(self.endpoint.troubles)}")
        return "; ".join(filter(None, parts))

    def _replied(self, bodies: Mapping[str, Body]) -> Iterator[str]:
        """The keys of the requests, each when its reply is in the cache."""
        with ThreadPoolExecutor(self.keys.concurrency) as threads:
            futures = {threads.submit(self._ask, key, body): key for key, body in bodies.items()}
            done = 0
            try:
                for future in as_completed(futures):
                    future.result()
                    done += 1
                    yield futures[future]
            except EndpointError as error:
                self._give_up(threads)
                kept = f"{self.usage.replies} of {len(bodies)} replies came and are kept in {self.cache.path}"
                message = f"{error.message}\n{kept}: the same command goes on with the others"
                raise EndpointError(message, error.hint) from None
            finally:
                if done < len(bodies):
                    self._give_up(threads)

    def _give_up(self, threads: ThreadPoolExecutor) -> None:
        """Sends nothing more, and waits for what is on its way: it is paid for."""
        self.endpoint.close()
        threads.shutdown(wait=True, cancel_futures=True)

    def _ask(self, key: str, body: Body) -> None:
        if key in self.cache:  # another process was faster
            return
        reply = self.endpoint.ask(body)
        self.cache.add(key, reply)
        self.usage.add(reply)

    def _judgement(self, questions: Sequence[Question]) -> Judgement:
        ratings = []
        replies = [self.cache[one.key].text for one in questions]
        for one, text in zip(questions, replies, strict=True):
            found = None if text is None else ratings_in(text)
            ratings.append(found.swapped if found is not None and one.swapped else found)
        judgement = Judgement(tuple(ratings), tuple(replies))
        self.outcomes[judgement.outcome] += 1
        return judgement

    def _questions(self, pair: Pair) -> list[Question]:
        first, second = self.cut(pair.first), self.cut(pair.second)
        prompt = dialogue(pair.prompt)
        made = []
        for swapped in self._orders(prompt, first, second):
            sides = (second, first) if swapped else (first, second)
            content = filled(self.template, prompt, *sides)
            body = {**self.keys.options, "messages": [{"role": "user", "content": content}]}
            made.append(Question(body, request_key(self.endpoint.url, body), swapped))
        return made

    def _orders(self, prompt: str, first: str, second: str) -> tuple[bool, ...]:
        """For each request whether the sides are swapped. A random order is one of the texts alone, so that a
        run which goes on asks what the one before it asked."""
        if self.keys.swap != "random":
            return (False, True) if self.keys.swap == "both" else (False,)
        content = json.dumps([self.keys.seed, prompt, first, second])
        return (hashlib.sha256(content.encode()).digest()[0] % 2 == 1,)

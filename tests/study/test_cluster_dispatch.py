"""How rows are handed to workers, with a Ray that does as it is told."""

import builtins
from collections.abc import Collection, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from arith import OptionError
from arith.errors import ArithError, EndpointError
from arith.study import cluster
from arith.study.cluster import Place, _Dispatch

ROWS = [(prompt, point, 0) for prompt in range(6) for point in range(4)]


class Lost(Exception):
    """A worker is gone, for a while or for good."""


class Dead(Lost):
    """Gone for good."""


class Failed(Exception):
    def __init__(self, cause: Exception):
        self.cause = cause


class FakeRay:
    """Tasks are done one after another, when they are asked for."""

    class exceptions:
        RayActorError = Lost
        ActorDiedError = Dead
        RayTaskError = Failed

    def wait(self, tasks: Sequence[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        assert num_returns == 1 and timeout > 0
        return [tasks[-1]], list(tasks[:-1])

    def get(self, reference: Any) -> Any:
        if isinstance(reference, Exception):
            raise reference
        return reference


class Load:
    """A task that loads the models."""


class Worker:
    """Yields its rows until it is to be lost, after so many of them in all; `lives` times. At first it can't
    be reached `unreached` times."""

    def __init__(
        self,
        after: int = 10_000,
        lives: int = 10_000,
        error: Exception | None = None,
        unreached: int = 0,
    ):
        self.after = after
        self.unreached = unreached
        self.lives = lives
        self.error = error
        self.did: list[Place] = []
        self.load = self.rows = self
        self.left = after

    def options(self, num_returns: str) -> "Worker":
        assert num_returns == "streaming"
        return self

    def remote(self, given: Any) -> Any:
        if given == "job":
            if self.unreached:
                self.unreached -= 1
                return Lost()
            self.left = self.after
            self.lives -= 1
            return Dead() if self.lives < 0 else Load()
        return self._run(given)

    def _run(self, share: Collection[Place]) -> Iterator[Any]:
        for place in share:
            if self.left == 0:
                yield Lost()
            self.left -= 1
            if self.error is not None:
                yield Failed(self.error)
            self.did.append(place)
            yield place, {"place": place}


def run(*workers: Worker) -> tuple[list[Any], list[str]]:
    said: list[str] = []
    rows = [row["place"] for row in _Dispatch(FakeRay(), "job", workers, ROWS, said.append).rows()]
    return rows, said


def test_every_row_comes_once_from_one_worker_or_several() -> None:
    for count in (1, 2, 5, 40):
        workers = [Worker() for _ in range(count)]
        rows, said = run(*workers)
        assert sorted(rows) == ROWS and said == []
        assert sorted(place for worker in workers for place in worker.did) == ROWS


def test_rows_of_lost_workers_are_run_again_and_no_other() -> None:
    for after in (0, 1, 2, 3):
        frail, sound = Worker(after=after, lives=2), Worker()
        rows, said = run(frail, sound)
        assert sorted(rows) == ROWS
        assert len(frail.did) + len(sound.did) == len(ROWS), "what had come was not run again"
        assert sum("a worker was lost" in one for one in said) == 2
        assert sum("couldn't be started" in one for one in said) == 1


def test_a_worker_that_cannot_be_reached_is_asked_again_after_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(cluster, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    rows, said = run(Worker(unreached=3))
    assert sorted(rows) == ROWS and said == []
    assert slept == [cluster.PAUSE] * 3


def test_without_any_worker_left_what_is_done_is_kept_and_the_rest_told() -> None:
    rows: list[Any] = []
    with pytest.raises(EndpointError, match="lost every worker") as raised:
        for row in _Dispatch(FakeRay(), "job", [Worker(after=3, lives=2)], ROWS, lambda said: None).rows():
            rows.append(row["place"])
    assert len(rows) == len(set(rows)) == 6 and "the same command goes on" in str(raised.value)


def test_what_a_worker_refuses_is_refused_in_its_own_words() -> None:
    with pytest.raises(ArithError) as raised:
        run(Worker(error=ArithError("the support is empty", "widen it")))
    assert str(raised.value) == "the support is empty\nhint: widen it"


def test_without_ray_it_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = builtins.__import__

    def without(name: str, *given: Any, **further: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return whole(name, *given, **further)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(OptionError, match=r"needs the package ray\nhint: pip install 'arith\[ray\]'"):
        cluster._connected("auto")

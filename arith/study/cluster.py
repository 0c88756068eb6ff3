"""A sweep over the machines of a Ray cluster: one engine a worker, and the rows as they finish."""

import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from arith.errors import EndpointError, OptionError
from arith.prompts_file import PromptLine
from arith.runtime.sweeping.sweep import swept
from arith.spec import SPEC_NAME
from arith.study.sweep_folder import sweep_row

if TYPE_CHECKING:
    from arith.runtime import Engine

Place = tuple[int, int, int]
"""Index of the prompt, index of the point, and sample of a row."""
Found = tuple[Place, dict[str, object]]

SHARES = 4  # that a worker gets of the rows: more even out its speed, fewer keep its batches full
RESTARTS = 10  # of one worker
PATIENCE = 30.0  # seconds without a worker before that is told
PAUSE = 1.0  # seconds before a worker that can't be reached is asked again
CONNECTING = 10.0  # seconds


@dataclass(frozen=True)
class SweepJob:
    """What each worker has to know: the specification as YAML, the prompts with the heads of their rows, and
    how to run them."""

    specification: str
    lines: Sequence[PromptLine]
    heads: Sequence[Mapping[str, object]]
    samples: int
    max_rows: int | None
    device: str | None


class SweepWorker:
    """One engine in a process of the cluster."""

    engine: "Engine | None" = None
    job: SweepJob

    def load(self, job: SweepJob) -> None:
        """Loads the models, unless they are. Raises what `Engine.load` raises."""
        from arith.runtime import Engine

        if self.engine is not None:  # it could not be reached for a while, and was there
            return
        self.job = job
        with TemporaryDirectory() as folder:
            (Path(folder) / SPEC_NAME).write_text(job.specification, encoding="utf-8")
            self.engine = Engine.load(folder, max_rows=job.max_rows, device=job.device)

    def rows(self, wanted: Collection[Place]) -> Iterator[Found]:
        """Runs these rows, once the models are loaded; each comes when it is finished."""
        assert self.engine is not None
        used = sorted({index for index, _, _ in wanted})
        number = {index: place for place, index in enumerate(used)}
        lines = [self.job.lines[index] for index in used]
        results = swept(
            self.engine,
            self.engine.points,
            [line.whole for line in lines],
            places=[line.place for line in lines],
            wanted={(number[index], point, sample) for index, point, sample in wanted},
            occurrences=[int(str(self.job.heads[index]["occurrence"])) for index in used],
            options={"num_return_sequences": self.job.samples},
        )
        for result in results:
            index = used[result.index]
            yield (index, result.point_index, result.sample), sweep_row(result, self.job.heads[index])


def cluster_rows(
    address: str,
    job: SweepJob,
    wanted: Collection[Place],
    *,
    workers: int | None,
    note: Callable[[str], None],
) -> Iterator[dict[str, object]]:
    """The rows of a sweep, each when it is finished, from the Ray cluster at `address`, which is `HOST:PORT`
    or `auto` for the one of this machine.

    `workers` is how many engines there are; None takes one a GPU, or one a machine where there are none. Rows
    of a worker that is lost are run again by others, and Ray starts it anew where it finds room. `note` is
    told what happens. Raises `OptionError` without Ray, `EndpointError` for a cluster that can't be reached
    or loses every worker, and what an engine raises.
    """
    ray = _connected(address)
    try:
        count, room = _division(ray.nodes(), workers)
        note(f"{count} worker{'' if count == 1 else 's'} on the Ray cluster at {address}")
        create = ray.remote(SweepWorker).options(max_restarts=RESTARTS, scheduling_strategy="SPREAD", **room)
        made = [create.remote() for _ in range(count)]
        yield from _Dispatch(ray, ray.put(job), made, wanted, note).rows()
    finally:
        ray.shutdown()


class _Dispatch:
    """Hands shares of the rows to workers that are ready, and back to others when one is lost."""

    def __init__(
        self,
        ray: Any,
        job: Any,
        workers: Sequence[Any],
        wanted: Collection[Place],
        note: Callable[[str], None],
    ):
        self.ray = ray
        self.job = job
        self.note = note
        self.waiting = deque(_shares(sorted(wanted), SHARES * len(workers)))
        self.loading = {worker.load.remote(job): worker for worker in workers}
        self.resting: deque[tuple[float, Any]] = deque()  # until when, workers that couldn't be reached
        self.idle: list[Any] = []
        self.running: dict[Any, tuple[Any, set[Place]]] = {}

    def rows(self) -> Iterator[dict[str, object]]:
        """The rows as they come, until there are all."""
        while self.waiting or self.running:
            while self.waiting and self.idle:
                self._start(self.idle.pop(), self.waiting.popleft())
            for task in self._ready():
                if task in self.loading:
                    self._loaded(task)
                else:
                    yield from self._next(task)

    def _ready(self) -> list[Any]:
        """Tasks that have come to something; none where a worker is to be asked again first."""
        while self.resting and self.resting[0][0] <= time.monotonic():
            self._load(self.resting.popleft()[1])
        tasks = [*self.running, *self.loading]
        if not (tasks or self.resting):
            raise EndpointError("the Ray cluster lost every worker", "the same command goes on from here")
        limit = max(0.0, self.resting[0][0] - time.monotonic()) if self.resting else PATIENCE
        if not tasks:
            time.sleep(limit)
            return []
        ready, _ = self.ray.wait(tasks, num_returns=1, timeout=limit)
        if not (ready or self.running or self.resting):
            self.note("no worker is ready yet: models are being loaded, or the cluster has no room")
        return list(ready)

    def _load(self, worker: Any) -> None:
        self.loading[worker.load.remote(self.job)] = worker

    def _start(self, worker: Any, share: Sequence[Place]) -> None:
        task = worker.rows.options(num_returns="streaming").remote(share)
        self.running[task] = (worker, set(share))

    def _loaded(self, task: Any) -> None:
        worker = self.loading.pop(task)
        try:
            self._result(task)
        except self.ray.exceptions.ActorDiedError:
            self.note("a worker couldn't be started")
        except self.ray.exceptions.RayActorError:
            self.resting.append((time.monotonic() + PAUSE, worker))
        else:
            self.idle.append(worker)

    def _next(self, task: Any) -> Iterator[dict[str, object]]:
        """The next row of a share, if there is one."""
        worker, rest = self.running[task]
        try:
            place, row = self._result(next(task))
        except StopIteration:
            del self.running[task]
            self.idle.append(worker)
        except self.ray.exceptions.RayActorError:
            del self.running[task]
            self.note(f"a worker was lost: {len(rest)} rows are run again")
            self.waiting.appendleft(sorted(rest))
            self._load(worker)
        else:
            rest.remove(place)
            yield row

    def _result(self, reference: Any) -> Any:
        """What a worker returned. Raises what it raised."""
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from None


def _connected(address: str) -> Any:
    """Ray, connected to the cluster."""
    try:
        import ray
    except ImportError:
        raise OptionError("--ray needs the package ray", "pip install 'arith[ray]'") from None
    host, _, port = address.rpartition(":")
    if address != "auto":
        if not host or "/" in host or not port.isdecimal():
            hint = "HOST:PORT of its head node, or auto for the cluster of this machine"
            raise OptionError(f"--ray {address}: not the address of a cluster", hint)
        try:  # Ray itself would try for minutes, and then end this process.
            socket.create_connection((host.strip("[]"), int(port)), CONNECTING).close()
        except (OSError, OverflowError) as error:
            raise _unreachable(address, error) from None
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError) as error:
        raise _unreachable(address, error) from None
    return ray


def _unreachable(address: str, error: Exception) -> EndpointError:
    reason = str(getattr(error, "strerror", None) or error).partition("\n")[0].rstrip(".")
    return EndpointError(
        f"--ray {address}: no Ray cluster answers: {reason}",
        "`ray start --head` starts one, and `ray status` tells whether one runs",
    )


def _division(nodes: Sequence[Mapping[str, Any]], workers: int | None) -> tuple[int, dict[str, float]]:
    """How many workers there are, and what Ray sets aside for each."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = int(sum(one.get("GPU", 0) for one in alive))
    if gpus:
        return workers or gpus, {"num_gpus": 1}
    cpus = [int(one["CPU"]) for one in alive if one.get("CPU", 0) >= 1]
    if not cpus:
        raise EndpointError("the Ray cluster has neither a GPU nor a CPU to work with")
    count = workers or len(cpus)
    return count, {"num_cpus": max(1, min(*cpus, sum(cpus) // count))}


def _shares(rows: Sequence[Place], count: int) -> list[list[Place]]:
    """The rows in at most so many parts, the rows of a prompt next to each other: they share its prefill."""
    size = max(1, -(-len(rows) // count))
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]

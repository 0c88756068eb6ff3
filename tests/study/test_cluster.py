"""A sweep over a Ray cluster: two machines' worth of Ray on this one, and workers that die."""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from arith.cli.app import app
from arith.study.cluster import _division, _shares

ROOT = Path(__file__).resolve().parents[2]
HAS_RAY = importlib.util.find_spec("ray") is not None
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
node = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=node)
cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


class Cluster(NamedTuple):
    process: subprocess.Popen[str]
    address: str


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A Ray cluster of two nodes with a CPU each."""
    if not HAS_RAY:
        pytest.skip("ray isn't installed")
    settings = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], cwd=ROOT, env=settings, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        yield Cluster(process, process.stdout.readline().strip())


def rows_in(folder: Path) -> list[dict[str, Any]]:
    path = folder / "results.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return sorted(
        map(json.loads, lines), key=lambda row: json.dumps([row["prompt_id"], row["point"], row["sample"]])
    )


def at_work(cluster: Cluster) -> list[int]:
    """The processes of the cluster that are running rows."""
    found = []
    for process in psutil.Process(cluster.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if " ".join(process.cmdline()).startswith("ray::SweepWorker.rows"):
                found.append(process.pid)
    return found


def test_rows_of_a_killed_worker_are_run_again_and_all_equal_those_of_one_engine(
    cluster: Cluster, tmp_path: Path, tiny_llama: str
) -> None:
    spec = {
        "formula": "base + h*other",
        "defaults": {"model": tiny_llama, "template": "{prompt}"},
        "operands": {"base": {}, "other": {"template": "Q: {prompt}"}},
        "sampling": {"max_new_tokens": 24, "seed": 3},
        "sweep": {"h": [0, 0.5, 1]},
    }
    (tmp_path / "spec.yaml").write_text(json.dumps(spec))
    (tmp_path / "prompts.txt").write_text("one\ntwo\none\nthree\n")
    prompts = str(tmp_path / "prompts.txt")
    words = ["sweep", str(tmp_path / "spec.yaml"), "--prompts", prompts, "--samples", "12"]
    command = [sys.executable, "-m", "arith", *words, "--max-rows", "2", "--out", str(tmp_path / "out")]
    run = subprocess.Popen([*command, "--ray", cluster.address], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    with run:
        assert run.stderr is not None
        while len(rows_in(tmp_path / "out")) < 5:
            assert run.poll() is None, run.stderr.read()
            time.sleep(0.01)
        os.kill(at_work(cluster)[0], signal.SIGKILL)
        said = run.stderr.read()
    assert run.returncode == 0, said
    assert "2 workers on the Ray cluster" in said and "a worker was lost" in said
    with pytest.raises(SystemExit):
        app([*words, "--out", str(tmp_path / "alone")])
    found, alone = rows_in(tmp_path / "out"), rows_in(tmp_path / "alone")
    assert len(found) == len(alone) == 144
    for row, expected in zip(found, alone, strict=True):
        assert row["logprobs"] == pytest.approx(expected["logprobs"], abs=1e-3)
        assert {**row, "logprobs": None} == {**expected, "logprobs": None}


def test_shares_hold_every_row_once_and_keep_prompts_together() -> None:
    rows = [(prompt, point, sample) for prompt in range(5) for point in range(3) for sample in range(2)]
    for count in (1, 4, 7, 30, 99):
        shares = _shares(rows, count)
        assert [row for share in shares for row in share] == rows and len(shares) <= count
        assert max(map(len, shares)) - min(map(len, shares[:-1] or shares)) <= 1


@pytest.mark.parametrize(
    ("resources", "workers", "expected"),
    [
        ([{"CPU": 8}], None, (1, {"num_cpus": 8})),
        ([{"CPU": 8}, {"CPU": 4}, {"memory": 1}], None, (2, {"num_cpus": 4})),
        ([{"CPU": 8}], 3, (3, {"num_cpus": 2})),
        ([{"CPU": 2}], 5, (5, {"num_cpus": 1})),
        ([{"CPU": 8, "GPU": 4}, {"CPU": 8, "GPU": 2}], None, (6, {"num_gpus": 1})),
        ([{"CPU": 8, "GPU": 4}], 2, (2, {"num_gpus": 1})),
    ],
)
def test_there_is_a_worker_for_each_gpu_or_else_for_each_machine(
    resources: list[dict[str, float]], workers: int | None, expected: tuple[int, dict[str, int]]
) -> None:
    nodes = [{"Alive": True, "Resources": one} for one in resources]
    assert _division([*nodes, {"Alive": False, "Resources": {"CPU": 9, "GPU": 9}}], workers) == expected

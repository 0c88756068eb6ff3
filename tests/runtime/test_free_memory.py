"""The memory that can be had: of accelerators, of the machine, and of containers."""

from pathlib import Path

import psutil
import pytest
import torch

from arith.runtime import free_memory as module
from arith.runtime.free_memory import free_memory, rooms_of_groups


def write(folder: Path, **content: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in content.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def test_what_torch_keeps_unused_on_an_accelerator_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    stats = {"reserved": 70, "active": 25, "inactive_split": 15}
    told = {f"{name}_bytes.all.current": count for name, count in stats.items()}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10, 100))
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda device: told)
    assert free_memory(torch.device("cuda", 0)) == 10 + 70 - 25 - 15


def test_groups_of_either_version_leave_what_they_do_not_use(tmp_path: Path) -> None:
    told, root = tmp_path / "cgroup", tmp_path / "mounted"
    told.write_text("0::/box/inner\n")
    stat = "anon 300\ninactive_file 40\nactive_file 9"
    write(root / "box" / "inner", memory__max="max", memory__current=500, memory__stat=stat)
    assert list(rooms_of_groups(told, root)) == []
    write(root / "box", memory__max=900, memory__current=500, memory__stat=stat)
    assert list(rooms_of_groups(told, root)) == [440]
    write(root / "box" / "inner", memory__max=520, memory__current=500, memory__stat=stat)
    assert list(rooms_of_groups(told, root)) == [60, 440]
    told.write_text("4:memory:/elsewhere\n1:cpu:/box\n")
    stat = "inactive_file 1\ntotal_inactive_file 5"
    files = {"memory__limit_in_bytes": 700, "memory__usage_in_bytes": 690, "memory__stat": stat}
    write(root / "memory", **files)  # what a container sees of its own group
    assert list(rooms_of_groups(told, root)) == [15]
    write(root / "memory", **{**files, "memory__usage_in_bytes": 800})
    assert list(rooms_of_groups(told, root)) == [0]
    assert list(rooms_of_groups(tmp_path / "missing", root)) == []


def test_a_container_has_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    told, root = tmp_path / "cgroup", tmp_path / "mounted"
    told.write_text("0::/\n")
    monkeypatch.setattr(module, "CGROUP", told)
    monkeypatch.setattr(module, "MOUNTED", root)
    assert 0 < free_memory(cpu) <= psutil.virtual_memory().total
    write(root, memory__max=2000, memory__current=500, memory__stat="anon 1")
    assert free_memory(cpu) == 1500

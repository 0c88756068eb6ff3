"""How much memory can be had on a device now."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

CGROUP = Path("/proc/self/cgroup")
MOUNTED = Path("/sys/fs/cgroup")
# The files of a control group that hold its limit and its use, and what it could give back of the latter.
VERSION_2 = ("memory.max", "memory.current", "inactive_file")
VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def free_memory(device: torch.device) -> int:
    """Bytes that can be had on the device now: of CUDA's also those in blocks which torch keeps for later and
    of which nothing is in use, and of a container's no more than it may have."""
    if device.type == "cuda":
        stats = torch.cuda.memory_stats(device)
        kept = [
            stats.get(f"{kind}_bytes.all.current", 0) for kind in ("reserved", "active", "inactive_split")
        ]
        return int(torch.cuda.mem_get_info(device)[0] + kept[0] - kept[1] - kept[2])
    return min([int(psutil.virtual_memory().available), *rooms_of_groups(CGROUP, MOUNTED)])


def rooms_of_groups(told: Path, mounted: Path) -> Iterator[int]:
    """Bytes left to each of the process's control groups (cgroups) that have a limit of memory: `told` lists
    the groups, and `mounted` is where their files are."""
    try:
        lines = told.read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _hierarchy, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root, files = (mounted / "memory", VERSION_1) if controllers else (mounted, VERSION_2)
        group = root / path.lstrip("/")
        for one in (group, *group.parents):
            room = _room(one, *files)
            if room is not None:
                yield room
            if one == root:
                break


def _room(group: Path, limit: str, used: str, inactive: str) -> int | None:
    """Bytes left to a group; None for one that has no limit, or whose files aren't here."""
    try:
        most, now = ((group / name).read_text(encoding="utf-8").strip() for name in (limit, used))
        stats = (group / "memory.stat").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    if not most.isdecimal():
        return None
    given_back = next((int(line.split()[1]) for line in stats if line.split()[0] == inactive), 0)
    return max(0, int(most) - int(now) + given_back)

"""This machine: its GPUs, as NVIDIA's own tool lists them, and how it is."""

from __future__ import annotations

import asyncio
import resource
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
PATIENCE = 5.0
QUERY = ("--query-gpu=name,memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True, slots=True)
class Gpus:
    """GPUs of one kind: the memory of each in MiB, and how many there are."""

    gpu: str
    memory: int
    count: int


def machine() -> dict[str, float]:
    """Percentages of its processors since the last call (since its start at first), memory and disk, and the MiB of
    memory that this process has.
    """
    import psutil  # noqa: PLC0415 - it is no part of a cold start

    return {
        "cpu_percent": psutil.cpu_percent(),
        "memory_percent": psutil.virtual_memory().percent,
        "memory_used_mb": round(psutil.Process().memory_info().rss / MIB, 1),
        "disk_percent": psutil.disk_usage(".").percent,
    }


async def host_gpus(tool: str = "nvidia-smi") -> list[Gpus]:
    """What ``nvidia-smi`` lists; nothing where there is none, or it does not answer within 5 seconds."""
    program = shutil.which(tool)
    if program is None:
        return []
    process = await asyncio.create_subprocess_exec(
        program, *QUERY, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(PATIENCE):
            told, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return []
    return _kinds(told.decode("utf-8", "replace")) if process.returncode == 0 else []


def _kinds(told: str) -> list[Gpus]:
    rows = (line.rpartition(",") for line in told.splitlines())
    known = ((name.strip(), memory.strip()) for name, _, memory in rows if name)
    counted = Counter((name, int(memory) if memory.isdigit() else 0) for name, memory in known)
    return [Gpus(name, memory, count) for (name, memory), count in counted.items()]


UNLIMITED = 2**60
"""What version 1 of control groups calls a limit where there is none: the largest number of pages."""


class MemoryUse:
    """How much is used of the memory that there is: the control group's where that has a limit, else the machine's;
    and of the process's own address space where that has one (``ulimit -v``).

    Which groups those are is found once: ``proc`` and ``groups`` are where the kernel tells of them.
    """

    def __init__(self, proc: Path = Path("/proc/self"), groups: Path = Path("/sys/fs/cgroup")) -> None:
        self._proc = proc
        self._groups = list(_groups(proc, groups))

    def percent(self) -> float:
        """Of the scarcest of them."""
        shares = [share for group in self._groups if (share := _share_of(group)) is not None]
        used = max(shares, default=None)
        return max(_machine() if used is None else used, self._address_space())

    def _address_space(self) -> float:
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return 0.0
        pages = int((self._proc / "statm").read_text().split()[0])
        return 100.0 * pages * resource.getpagesize() / limit


def give_back() -> None:
    """Hand the system what was freed: the C library keeps it otherwise, for later."""
    import ctypes  # noqa: PLC0415 - no part of a cold start

    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return  # another C library, which does as it likes


def _groups(proc: Path, mounted: Path) -> Iterator[Path]:
    """The control group of this process and those around it, as far as they are seen from here."""
    try:
        lines = (proc / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root = mounted / controllers
        for folder in (root / path.lstrip("/"), *(root / path.lstrip("/")).parents):
            if folder.is_relative_to(root) and any((folder / name).exists() for name, _, _ in _FILES):
                yield folder


_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Of both versions: the limit, what is used, and what of that is only the files' cache, which the kernel takes back."""


def _share_of(group: Path) -> float | None:
    """Percent of a group's memory that are used; ``None`` if it has no limit."""
    for limit, used, cache in _FILES:
        try:
            most = (group / limit).read_text().strip()
            if most == "max" or int(most) >= UNLIMITED:
                return None
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            return 100.0 * (int((group / used).read_text()) - int(stat.get(cache, 0))) / int(most)
        except FileNotFoundError:
            continue
    return None


def _machine() -> float:
    import psutil  # noqa: PLC0415 - no part of a cold start

    return float(psutil.virtual_memory().percent)

"""This machine: its GPUs, as NVIDIA's own tool lists them, and how it is."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from dataclasses import dataclass

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

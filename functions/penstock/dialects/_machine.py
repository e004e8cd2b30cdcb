"""How this machine is. Imported when first asked for: it is no part of a cold start."""

from __future__ import annotations

import psutil

MIB = 1024 * 1024

_this = psutil.Process()


def machine() -> dict[str, float]:
    """Percentages of its processors since the last call (since its start at first), memory and disk, and the MiB of
    memory that this process has.
    """
    return {
        "cpu_percent": psutil.cpu_percent(),
        "memory_percent": psutil.virtual_memory().percent,
        "memory_used_mb": round(_this.memory_info().rss / MIB, 1),
        "disk_percent": psutil.disk_usage(".").percent,
    }

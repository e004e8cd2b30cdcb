"""The section of ``config.yaml`` about log lines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from penstock.schema.bounds import require

_LISTENER = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):\d{1,5}")


@dataclass(frozen=True, slots=True)
class Rotation:
    """A log file that would grow past ``max_size_mb`` (MiB) is put aside; ``max_files`` are kept, it included."""

    max_size_mb: float = 100.0
    max_files: int = 5

    def __post_init__(self) -> None:
        require("max_size_mb", 0.01 <= self.max_size_mb <= 100_000, "from 0.01 to 100000")
        require("max_files", 1 <= self.max_files <= 1000, "from 1 to 1000")


@dataclass(frozen=True, slots=True)
class Logging:
    """Log lines on standard error, and, where they are named, in a ``file`` and by UDP to a ``remote_sink``; at
    ``INFO`` each request writes one.
    """

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["json", "text"] = "json"
    file: str | None = None
    rotation: Rotation = Rotation()
    remote_sink: str | None = None

    def __post_init__(self) -> None:
        require("file", self.file is None or (bool(self.file) and "\0" not in self.file), "a path")
        require("remote_sink", self.remote_sink is None or _is_listener(self.remote_sink), "host:port")


def _is_listener(address: str) -> bool:
    return bool(_LISTENER.fullmatch(address)) and 1 <= int(address.rpartition(":")[2]) <= 65535

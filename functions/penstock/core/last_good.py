"""Which configuration the processes of one server live by: for one that starts in another's place meanwhile.

They have a parent and a folder in common, and so another server that is given the same folder finds nothing there.
"""

from __future__ import annotations

import os
from pathlib import Path


class LastGood:
    """The number of it, in a file of that ``folder``; nowhere, and never known, without a folder."""

    def __init__(self, folder: str) -> None:
        self._path = Path(folder) / f"configuration.{os.getppid()}" if folder else None

    def keep(self, version: int) -> None:
        """Say that it is this one now."""
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside = self._path.with_suffix(f".{os.getpid()}.part")
            beside.write_text(str(version), encoding="ascii")
            beside.rename(self._path)

    def known(self) -> int | None:
        """Which one it is; ``None`` at the server's first start."""
        try:
            return int(self._path.read_text(encoding="ascii")) if self._path is not None else None
        except FileNotFoundError:
            return None

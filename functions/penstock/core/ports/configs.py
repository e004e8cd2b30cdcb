"""What the core asks of a store to keep configurations."""

from __future__ import annotations

from typing import Protocol

from penstock.schema.config_version import ConfigVersion, Steering


class ConfigStore(Protocol):
    """The part of a ``Store`` that keeps configurations; the same rules hold."""

    async def number_config(self, sha256: str, text: str, *, origin: str, actor: str, at: float) -> int:
        """The number of the document with this hash: the next one if it is new here, else the one that it has."""
        ...

    async def find_config(self, sha256: str) -> int:
        """The number of the document with this hash; 0 if it has none."""
        ...

    async def read_config(self, number: int) -> ConfigVersion | None:
        """The document of this number, or ``None``."""
        ...

    async def touch_config(self, number: int, at: float) -> None:
        """Say that a version was put in force anew; nothing happens if there is none."""
        ...

    async def list_configs(self, *, limit: int) -> list[ConfigVersion]:
        """The versions with the highest numbers, the highest first."""
        ...

    async def load_steering(self) -> Steering:
        """What all processes are told; of revision 0 if nobody ever told them anything."""
        ...

    async def replace_steering(self, steering: Steering) -> None:
        """Write the next revision; ``StateConflict`` unless the one before it is the present one."""
        ...

"""The section ``templates`` of a configuration."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.schema.bounds import require


@dataclass(frozen=True, slots=True)
class TemplateSection:
    """Where the templates of prompts are: a ``directory``, beside the configuration file unless its path is absolute.

    So many are kept compiled as ``cache_size`` says. With ``auto_reload`` a file that has changed is read again.
    """

    enabled: bool = True
    directory: str = "templates"
    cache_size: int = 50
    auto_reload: bool = True

    def __post_init__(self) -> None:
        require("directory", bool(self.directory.strip()) and "\0" not in self.directory, "the path of a directory")
        require("cache_size", 0 <= self.cache_size <= 10_000, "from 0 to 10000")

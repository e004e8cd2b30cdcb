"""Where the templates of prompts are, if there are any."""

from __future__ import annotations

from pathlib import Path

from penstock.core.templates.filling import Templates
from penstock.settings import Settings


def build_templates(settings: Settings) -> Templates | None:
    """The templates of the configuration; ``None`` if it has none."""
    section = settings.document.templates
    if section is None or not section.enabled:
        return None
    return Templates(section, Path(settings.config_path).parent / section.directory)

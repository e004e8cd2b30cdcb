"""How YAML is read here."""

from __future__ import annotations

import yaml


class Loader(yaml.SafeLoader):
    """YAML without dates: ``2026-01-01`` is text."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}

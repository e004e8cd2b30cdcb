"""template.yaml as the tests read it: intrinsic functions become one-key mappings, as in CloudFormation's JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short tags."""


def _intrinsic(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
        return {name: value.split(".", 1) if suffix == "GetAtt" else value}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {name: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _intrinsic)


def read(path: str = "template.yaml") -> dict[str, Any]:
    """A template, whole."""
    document: dict[str, Any] = yaml.load((ROOT / path).read_text(encoding="utf-8"), Loader=_Loader)
    return document


def resources(kind: str, path: str = "template.yaml") -> dict[str, dict[str, Any]]:
    """The properties of each resource of one type, by logical id."""
    return {
        name: resource.get("Properties", {})
        for name, resource in read(path)["Resources"].items()
        if resource["Type"] == kind
    }


def functions() -> dict[str, dict[str, Any]]:
    """The properties of each Lambda function, by logical id."""
    return resources("AWS::Serverless::Function")


def variables(function: str) -> dict[str, str]:
    """What the template itself writes into a function's environment; references are left to the deployment."""
    template = read()
    shared = template["Globals"]["Function"]["Environment"]["Variables"]
    own = template["Resources"][function]["Properties"].get("Environment", {}).get("Variables", {})
    return {name: value for name, value in {**shared, **own}.items() if isinstance(value, str)}

"""template.yaml names only what exists."""

from __future__ import annotations

import ast
import os
from typing import Any

import pytest
import yaml

from tests.house.tree import ROOT, syntax

TEMPLATE = ROOT / "template.yaml"


class Cloud(yaml.SafeLoader):
    """Reads CloudFormation's short functions (`!Ref x`) as the values that they are given."""


def construct(loader: Cloud, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.ScalarNode)
    return loader.construct_scalar(node)


Cloud.add_multi_constructor("!", construct)


def functions() -> dict[str, tuple[str, str]]:
    """The folder of the code and the handler of each function in the template."""
    if not TEMPLATE.exists():
        return {}
    document = yaml.load(TEMPLATE.read_text(encoding="utf-8"), Cloud)
    shared = document.get("Globals", {}).get("Function", {})
    return {
        title: (settings.get("CodeUri", ""), settings.get("Handler", ""))
        for title, resource in document["Resources"].items()
        if resource["Type"] == "AWS::Serverless::Function"
        for settings in [{**shared, **resource["Properties"]}]
    }


def test_the_template_has_functions() -> None:
    assert functions(), "template.yaml is missing or lists no AWS::Serverless::Function"


@pytest.mark.parametrize("function", functions())
def test_every_handler_resolves(function: str) -> None:
    folder, handler = functions()[function]
    script = ROOT / folder / handler
    if handler.endswith(".sh"):
        assert os.access(script, os.X_OK), f"{function}: {folder}{handler} is not an executable file"
        return
    module = script.with_suffix(".py")
    assert module.exists(), f"{function}: there is no {module.relative_to(ROOT)}"
    assert script.suffix[1:] in top_level_names(syntax(module)), f"{function}: {handler} is not defined"


def top_level_names(module: ast.Module) -> set[str]:
    names: set[str] = set()
    for statement in module.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Assign):
            names |= {target.id for target in statement.targets if isinstance(target, ast.Name)}
    return names

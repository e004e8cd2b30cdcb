"""Names say what a thing is, and files hold nothing of the machine that they were written on."""

from __future__ import annotations

import ast
import re

from tests.house.tree import PACKAGE, broken, files, name, shipped, syntax

EMPTY_WORDS = {
    *("utils", "util", "helpers", "helper", "common", "manager", "service"),
    *("processor", "data", "misc", "v2", "new"),
}

# One person's folders, a build machine's, and the hosts that packages come from: locks and docs work anywhere.
PERSONAL = re.compile(
    r"(?<![\w.*-])/(?:work|farm|root|Users/\w+|home/\w+|opt/w|tmp/bash_jobs)/"
    r"|pypi\.org|pythonhosted\.org|registry\.npmjs|--(?:extra-)?index[-]url"
)
BINARY = {".png", ".ico", ".gz", ".woff2", ".pyc", ".db", ".safetensors"}


def test_no_file_hides_behind_an_empty_word() -> None:
    found = [name(path) for path in files() if EMPTY_WORDS & set(re.split(r"[_\-.]", path.name.lower()))]
    assert not found, broken("these words say nothing about what is inside:", found)


def test_no_folder_hides_behind_an_empty_word() -> None:
    folders = {part for path in files(".py") for part in name(path).split("/")[:-1]}
    found = sorted(folder for folder in folders if EMPTY_WORDS & set(re.split(r"[_\-.]", folder.lower())))
    assert not found, broken("these words say nothing about what is inside:", found)


def test_no_class_ends_in_an_empty_word() -> None:
    found = [
        f"{name(path)}:{node.lineno} {node.name}"
        for path in shipped()
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.ClassDef)
        if re.split(r"(?=[A-Z])", node.name)[-1].lower() in EMPTY_WORDS
    ]
    assert not found, broken("these words say nothing about what an object does:", found)


def test_no_file_names_one_machine_or_one_registry() -> None:
    found = [
        f"{name(path)}:{number} {match.group()}"
        for path in files()
        if path.suffix not in BINARY
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if (match := PERSONAL.search(line))
    ]
    assert not found, broken("these lines are true on one machine only:", found)


def test_settings_alone_reads_the_environment() -> None:
    found = [
        f"{name(path)}:{node.lineno}"
        for path in files(".py")
        if PACKAGE.parent in path.parents and path != PACKAGE / "settings.py"
        for node in ast.walk(syntax(path))
        if reads_environment(node)
    ]
    assert not found, broken("the environment is read in penstock/settings.py alone; pass on what it answers:", found)


def reads_environment(node: ast.AST) -> bool:
    words = {"environ", "environb", "getenv", "getenvb", "putenv"}
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" and any(alias.name in words for alias in node.names)
    return isinstance(node, ast.Attribute) and node.attr in words and getattr(node.value, "id", "") == "os"


def test_both_stores_have_the_same_rooms() -> None:
    sqlite, dynamodb = (
        {path.name for path in (PACKAGE / "stores" / kind).glob("*.py")} for kind in ("sqlite", "dynamodb")
    )
    assert sqlite == dynamodb, f"only one of the stores has {sorted(sqlite ^ dynamodb)}"
    assert sqlite, "there is no store at all"

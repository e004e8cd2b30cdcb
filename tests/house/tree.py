"""The checkout as the rules of the house see it: its files, and its Python files as syntax trees."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "functions"
PACKAGE = SOURCES / "penstock"

_KEPT_HIDDEN = {".ci", ".github"}
_BUILT = {"build", "dist", "node_modules", "__pycache__"}


def _walk() -> Iterator[Path]:
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [
            name for name in folders if name not in _BUILT and (not name.startswith(".") or name in _KEPT_HIDDEN)
        ]
        yield from (Path(folder, name) for name in files if name != ".git")  # a file where the tree is a second one


@cache
def files(*suffixes: str) -> tuple[Path, ...]:
    """Every file of the tree with one of these suffixes; without any, every file. What was built is left out."""
    return tuple(sorted(path for path in _walk() if not suffixes or path.suffix in suffixes))


def shipped() -> Iterator[Path]:
    """The Python files that run in production: the source root and the GPU workers."""
    for path in files(".py"):
        if path.relative_to(ROOT).parts[0] in {"functions", "gpu_workers"}:
            yield path


def doors() -> list[Path]:
    """The files that Lambda starts."""
    return sorted([*SOURCES.glob("*/handler.py"), *SOURCES.glob("*/run.sh")])


@cache
def syntax(path: Path) -> ast.Module:
    """A Python file, parsed."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def lines(path: Path) -> int:
    """How many lines a file has."""
    return len(path.read_text(encoding="utf-8").splitlines())


def name(path: Path) -> str:
    """A path as people write it: from the root of the checkout."""
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> set[str]:
    """The absolute modules that a file names in import statements, wherever they stand."""
    found: set[str] = set()
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def broken(rule: str, offenders: list[str]) -> str:
    """What a failing rule says: the rule, then each place where it does not hold."""
    return f"{rule}\n  " + "\n  ".join(offenders)

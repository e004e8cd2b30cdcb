"""The table of the contract: each row, the tests that prove it, and where it is implemented; ``-m`` writes it."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "functions" / "penstock"
ROWS = Path(__file__).with_name("rows.toml")
PAGE = ROOT / "docs" / "contract.md"
PARTS = {
    "C": "Where the documents contradict one another",
    "I": "IIR",
    "T": "Tasks",
    "P": "Proxy",
    "N": "InfiniLM",
    "D": "The design card",
}
HEAD = """\
# What is promised, and what proves it

Penstock replaces four earlier systems (IIR, Tasks, Proxy, InfiniLM) and keeps what their documents promise, row by row;
`C1` to `C7` settle where these contradict one another. This page is made by `python -m tests.contract.table` of
`tests/contract/rows.toml` and the tests' `@pytest.mark.row` marks. Tests fail when it is stale or a row has no test.
"""


@dataclass
class Row:
    """One promise; ``pending`` is why no test proves it, where none does."""

    id: str
    text: str
    where: list[str]
    pending: str = ""
    tests: list[str] = field(default_factory=list)


def rows() -> dict[str, Row]:
    """Every row in the order of the contract, with the tests that name it."""
    found = {row["id"]: Row(**row) for row in tomllib.loads(ROWS.read_text(encoding="utf-8"))["row"]}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, test in marked(path):
            found[name].tests.append(test)
    return found


def marked(path: Path) -> Iterator[tuple[str, str]]:
    """Each row that a test of a file is marked with, and the test."""
    text = path.read_text(encoding="utf-8")
    if "mark.row(" not in text:
        return
    tree = ast.parse(text, filename=str(path))
    everywhere = [
        name
        for node in tree.body
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == "pytestmark" for target in node.targets)
        for name in named(node.value)
    ]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            for name in dict.fromkeys([*everywhere, *(name for mark in node.decorator_list for name in named(mark))]):
                yield name, f"{path.relative_to(ROOT).as_posix()}::{node.name}"


def named(tree: ast.AST) -> list[str]:
    """The rows that the marks in an expression name."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [
        ast.literal_eval(word) for call in calls if ast.unparse(call.func).endswith("mark.row") for word in call.args
    ]


def place(path: str) -> Path:
    """Where a row says that it is implemented: below the package, or from the root."""
    return inside if (inside := PACKAGE / path).exists() else ROOT / path


def page() -> str:
    """The whole page."""
    found = rows()
    open_rows = [row for row in found.values() if not row.tests]
    told = [HEAD]
    if open_rows:
        told.append("\n## Not proved\n\n" + "\n".join(f"- **{row.id}** {row.pending}" for row in open_rows) + "\n")
    for letter, title in PARTS.items():
        told.append(f"\n## {title}\n\n| row | what must work | proved by | implemented in |\n|---|---|---|---|\n")
        told += [line(row) for row in found.values() if row.id[0] == letter]
    return "".join(told)


def line(row: Row) -> str:
    """A row as a line of its table."""
    files: dict[str, list[str]] = {}
    for test in row.tests:
        file, name = test.split("::")
        files.setdefault(file, []).append(name)
    tests = "<br>".join(link(ROOT / file, file, f": {len(names)}") for file, names in files.items())
    where = ", ".join(link(place(path), path) for path in row.where)
    return f"| {row.id} | {escaped(row.text)} | {tests or '**nothing yet**'} | {where} |\n"


def link(path: Path, text: str, after: str = "") -> str:
    """A link from the page to a file."""
    return f"[{text}](../{path.relative_to(ROOT).as_posix()}){after}"


def escaped(text: str) -> str:
    """A text that does not end its cell."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

"""Nothing grows past what one person reads in one sitting."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import ROOT, broken, doors, files, lines, name, shipped, syntax

FILE_LINES = 400
FUNCTION_LINES = 50
COMPLEXITY = 10
DOOR_LINES = 40

# A raised ceiling of a file, with its reason: {"path": (lines, "why this one cannot be split")}.
RAISED: dict[str, tuple[int, str]] = {}

# Where everything may be caught: at the edge of the house, to turn it into an answer, and around one job.
CATCHES_ALL = {"functions/penstock/app.py", "functions/penstock/core/jobs/consumer.py"}


def test_a_file_has_at_most_400_lines() -> None:
    tall = [
        f"{name(path)} has {lines(path)}"
        for path in files(".py", ".sh", ".js", ".mjs")
        if lines(path) > RAISED.get(name(path), (FILE_LINES, ""))[0]
    ]
    assert not tall, broken(f"a file has at most {FILE_LINES} lines; give its second subject a file of its own:", tall)


def test_a_raised_ceiling_has_a_reason_and_is_still_needed() -> None:
    for path, (ceiling, reason) in RAISED.items():
        assert reason.strip(), f"the raised ceiling of {path} has no reason"
        assert FILE_LINES < lines(ROOT / path) <= ceiling, f"{path} no longer needs its raised ceiling"


def test_a_function_has_at_most_50_lines() -> None:
    tall = [
        f"{name(path)}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1}"
        for path in files(".py")
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if node.end_lineno is not None and node.end_lineno - node.lineno + 1 > FUNCTION_LINES
    ]
    assert not tall, broken(f"a function has at most {FUNCTION_LINES} lines:", tall)


def test_a_function_has_a_complexity_of_at_most_10() -> None:
    measured = subprocess.run(
        [
            *(sys.executable, "-m", "ruff", "check", "--isolated", "--ignore-noqa", "--no-cache", "--quiet"),
            *("--output-format", "concise", "--select", "C901"),
            *("--config", f"lint.mccabe.max-complexity={COMPLEXITY}", *map(str, files(".py"))),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert measured.returncode == 0, f"a function is too complex:\n{measured.stdout}{measured.stderr}"


@pytest.mark.parametrize("door", doors(), ids=name)
def test_a_door_has_at_most_40_lines(door: Path) -> None:
    assert lines(door) <= DOOR_LINES, f"{name(door)} has {lines(door)} lines: a door only opens, the work is inside"


def test_nothing_is_global() -> None:
    found = [
        f"{name(path)}:{node.lineno}"
        for path in files(".py")
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.Global)
    ]
    assert not found, broken("state belongs to an object that is passed on, not to `global`:", found)


def test_everything_is_caught_only_at_the_edges() -> None:
    allowed = CATCHES_ALL | {name(door) for door in doors()}
    found = [
        f"{name(path)}:{node.lineno}"
        for path in shipped()
        if name(path) not in allowed
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.ExceptHandler) and catches_all(node)
    ]
    assert not found, broken("only doors, app.py and the job loop may catch everything; name what can happen:", found)


def catches_all(handler: ast.ExceptHandler) -> bool:
    """Whether any failure at all ends here. One that is raised again after letting go of something does not."""
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    broad = any(kind is None or (isinstance(kind, ast.Name) and kind.id in BROAD) for kind in caught)
    return broad and not raises_again(handler)


def raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    leaves = any(isinstance(node, ast.Return | ast.Continue | ast.Break) for node in ast.walk(handler))
    return isinstance(last, ast.Raise) and last.exc is None and not leaves


BROAD = {"Exception", "BaseException"}


@pytest.mark.parametrize(
    ("code", "broad"),
    [
        ("except: pass", True),
        ("except Exception: pass", True),
        ("except (OSError, BaseException) as error: log(error)", True),
        ("except BaseException: close(); raise", False),
        ("except Exception as error: raise Other from error", True),
        ("except OSError: pass", False),
        ("except (OSError, ValueError): pass", False),
    ],
)
def test_the_rule_knows_a_broad_except_from_a_narrow_one(code: str, broad: bool) -> None:
    tried = ast.parse(f"try:\n    pass\n{code}").body[0]
    assert isinstance(tried, ast.Try)
    assert catches_all(tried.handlers[0]) is broad


def test_the_rule_sees_through_a_failure_that_is_raised_again_only_sometimes() -> None:
    tried = ast.parse("try:\n    pass\nexcept Exception:\n    if calm:\n        return\n    raise").body[0]
    assert isinstance(tried, ast.Try)
    assert catches_all(tried.handlers[0])

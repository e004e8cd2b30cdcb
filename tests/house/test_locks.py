"""The locks hold what pyproject.toml asks for, with hashes, and nothing else; seen without a network."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import penstock
from tests.house.tree import ROOT, broken

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RUNTIME = ROOT / "functions" / "requirements.txt"
DEVELOPMENT = ROOT / "requirements-dev.txt"
INSTALLER = ROOT / "requirements-uv.txt"
MEND = "run `make lock` and commit the locks"

ASKED = {
    RUNTIME: PROJECT["project"]["dependencies"],
    DEVELOPMENT: PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"],
}


def entries(lock: Path) -> dict[str, list[Requirement]]:
    """What a lock pins, by canonical name; a name may have one pin for each range of Python versions."""
    pins: dict[str, list[Requirement]] = {}
    for line in re.findall(r"^([A-Za-z0-9].*?)\s*\\?$", lock.read_text(encoding="utf-8"), re.MULTILINE):
        pin = Requirement(line)
        pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


def version(pin: Requirement) -> str:
    (exact,) = pin.specifier
    assert exact.operator == "==", f"{pin} is not pinned"
    return exact.version


def applies(requirement: Requirement, extras: Iterable[str] = ()) -> bool:
    """Whether a requirement holds for this interpreter, with one of these extras or without any."""
    environment = {key: str(value) for key, value in default_environment().items()}
    return requirement.marker is None or any(
        requirement.marker.evaluate({**environment, "extra": extra}) for extra in ["", *extras]
    )


def reachable(asked: list[str]) -> set[str]:
    """Everything that these requirements bring with them here, read from what is installed."""
    found: set[tuple[str, frozenset[str]]] = set()
    waiting = [(Requirement(text), frozenset[str]()) for text in asked]
    while waiting:
        requirement, extras = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in found or not applies(requirement, extras):
            continue
        found.add(key)
        try:
            waiting += [(Requirement(text), key[1]) for text in requires(requirement.name) or ()]
        except PackageNotFoundError:
            pytest.fail(f"{requirement.name} is asked for and not installed: {MEND}")
    return {name for name, _ in found}


@pytest.mark.parametrize("lock", ASKED, ids=lambda lock: lock.name)
def test_a_lock_satisfies_what_the_project_asks_for(lock: Path) -> None:
    pins = entries(lock)
    missing = [
        text
        for text in ASKED[lock]
        for asked in [Requirement(text)]
        if not any(asked.specifier.contains(version(pin)) for pin in pins.get(canonicalize_name(asked.name), []))
    ]
    assert not missing, broken(f"{lock.name} is stale; {MEND}:", missing)


@pytest.mark.parametrize("lock", ASKED, ids=lambda lock: lock.name)
def test_a_lock_holds_everything_that_is_needed_and_nothing_else(lock: Path) -> None:
    here = {name for name, pins in entries(lock).items() if any(applies(pin) for pin in pins)}
    needed = reachable(ASKED[lock])
    assert here == needed, f"{MEND}: missing {sorted(needed - here)}, no longer needed {sorted(here - needed)}"


def test_both_locks_pin_the_same_versions() -> None:
    development = entries(DEVELOPMENT)
    differing = [
        name
        for name, pins in entries(RUNTIME).items()
        if sorted(map(str, pins)) != sorted(map(str, development.get(name, [])))
    ]
    assert not differing, broken(f"what runs in tests is not what is deployed; {MEND}:", differing)


@pytest.mark.parametrize("lock", [RUNTIME, DEVELOPMENT, INSTALLER], ids=lambda lock: lock.name)
def test_every_pin_carries_its_hashes(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    bare = [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block]
    assert blocks
    assert not bare, broken(f"{lock.name} has pins that anybody could replace:", bare)


def test_the_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (\S+)", text, re.MULTILINE)
    assert headings[:1] == [penstock.__version__], "CHANGELOG.md's first entry and penstock.__version__ differ"


def test_the_console_script_and_the_module_are_the_same_program() -> None:
    assert PROJECT["project"]["scripts"] == {"penstock": "penstock.cli:main"}
    main = (ROOT / "functions" / "penstock" / "__main__.py").read_text(encoding="utf-8")
    assert "from penstock.cli import main" in main, (
        "`python -m penstock`, which .venv/bin/penstock runs, is another one"
    )

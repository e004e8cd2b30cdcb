"""How much memory is used of what there is: the control group's, of both versions, or the machine's."""

from __future__ import annotations

import resource
from pathlib import Path

import psutil
import pytest

from penstock import hardware
from penstock.hardware import MemoryUse, give_back

V1 = {
    "memory.limit_in_bytes": "1000",
    "memory.usage_in_bytes": "700",
    "memory.stat": "cache 5\ntotal_inactive_file 200\n",
}
V2 = {"memory.max": "1000\n", "memory.current": "700\n", "memory.stat": "anon 5\ninactive_file 200\n"}


@pytest.fixture(autouse=True)
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    monkeypatch.setattr(hardware, "_machine", lambda: 12.0)


def use(folder: Path, told: str, groups: dict[str, dict[str, str]]) -> MemoryUse:
    (folder / "proc").mkdir()
    (folder / "proc" / "cgroup").write_text(told)
    for path, files in groups.items():
        (folder / "groups" / path).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / "groups" / path / name).write_text(text)
    return MemoryUse(folder / "proc", folder / "groups")


def test_of_version_1(tmp_path: Path) -> None:
    assert use(tmp_path, "5:cpu:/a\n4:memory:/a/b\n0::/\n", {"memory/a/b": V1}).percent() == 50


def test_of_version_2(tmp_path: Path) -> None:
    assert use(tmp_path, "0::/a/b\n", {"a/b": V2}).percent() == 50


def test_the_tightest_of_the_groups_around_counts(tmp_path: Path) -> None:
    assert use(tmp_path, "0::/a/b\n", {"a/b": V2, "a": V2 | {"memory.max": "625"}}).percent() == 80


def test_in_a_container_the_group_is_the_root_of_what_is_mounted(tmp_path: Path) -> None:
    assert use(tmp_path, "0::/\n", {".": V2}).percent() == 50
    (tmp_path / "one").mkdir()
    assert use(tmp_path / "one", "4:memory:/docker/1234\n", {"memory": V1}).percent() == 50


@pytest.mark.parametrize("limit", ["max", str(2**63 - 4096)])
def test_without_a_limit_it_is_the_machines(tmp_path: Path, limit: str) -> None:
    assert use(tmp_path, "0::/a\n", {"a": V2 | {"memory.max": limit}}).percent() == 12


def test_where_there_are_no_groups_it_is_the_machines(tmp_path: Path) -> None:
    assert MemoryUse(tmp_path / "no", tmp_path / "no").percent() == 12


def test_an_address_space_with_a_limit_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1000 * resource.getpagesize(), 0))
    found = use(tmp_path, "0::/\n", {})
    (tmp_path / "proc" / "statm").write_text("800 1 1 1 1 1 0")
    assert found.percent() == 80


def test_on_this_machine_it_is_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 0 < MemoryUse().percent() <= 100
    assert hardware._machine() == pytest.approx(psutil.virtual_memory().percent, abs=10)
    give_back()

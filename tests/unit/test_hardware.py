"""The machine's own GPUs, as a tool that stands in for NVIDIA's lists them."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock import hardware
from penstock.hardware import Gpus, host_gpus

ASKED = '[ "$1 $2" = "--query-gpu=name,memory.total --format=csv,noheader,nounits" ] || exit 2\n'


def tool(folder: Path, script: str) -> str:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


async def test_gpus_of_one_kind_are_counted(tmp_path: Path) -> None:
    listing = "echo 'NVIDIA H200, 143771'; echo 'NVIDIA L4, 23034'; echo 'NVIDIA H200, 143771'"
    assert await host_gpus(tool(tmp_path, ASKED + listing)) == [
        Gpus("NVIDIA H200", 143771, 2),
        Gpus("NVIDIA L4", 23034, 1),
    ]


async def test_memory_that_is_not_told_is_none(tmp_path: Path) -> None:
    assert await host_gpus(tool(tmp_path, "echo 'NVIDIA GB10, [N/A]'")) == [Gpus("NVIDIA GB10", 0, 1)]


@pytest.mark.parametrize("script", ["exit 9", "echo 'NVIDIA-SMI has failed'; exit 0"])
async def test_without_a_driver_there_are_none(tmp_path: Path, script: str) -> None:
    assert await host_gpus(tool(tmp_path, script)) == []


async def test_without_the_tool_there_are_none(tmp_path: Path) -> None:
    assert await host_gpus(str(tmp_path / "none")) == []


async def test_nobody_waits_for_a_tool_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "PATIENCE", 0.05)
    assert await host_gpus(tool(tmp_path, "exec sleep 60")) == []

"""A launch with `--gateway`: an agent of its own speaks for the engine, whatever becomes of either."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.fleet import CONFIG, SECRET, registered_at, states, workers
from tests.e2e.server import Server, wait_for
from tests.gpu_workers.launched import KEY, Launched

pytestmark = pytest.mark.timeout(120)

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc, which Linux has")
CALLER = {"authorization": f"Bearer {KEY}"}
SING = {"messages": [{"role": "user", "content": "sing"}], "stream": True}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "gateway"
    folder.mkdir()
    with Server(folder, CONFIG, PENSTOCK_FLEET_SECRET=SECRET, PENSTOCK_ENGINE_API_KEY=KEY) as server:
        yield server


@pytest.fixture
def launched(tmp_path: Path, gateway: Server) -> Iterator[Launched]:
    """A launch whose worker the gateway knows as ready."""
    told = ("--gateway", gateway.url, "--id", "gpu-1")
    with Launched(tmp_path, *told, PENSTOCK_FLEET_SECRET=SECRET).ready() as launch:
        wait_for(lambda: state(gateway) == "ready", "the worker to be registered")
        yield launch


def state(gateway: Server) -> str | None:
    return states(gateway).get("gpu-1")


def agents_of(launch: Launched) -> list[int]:
    """The processes of the agent that this launch has started."""
    seen = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in seen.splitlines()]
    return [int(pid) for pid, parent, words in rows if int(parent) == launch.process.pid and "agent.py" in words]


def test_the_gateway_hears_of_the_engine(launched: Launched, gateway: Server) -> None:
    told = workers(gateway)["gpu-1"]
    assert (told["id"], told["url"], told["models"]) == ("gpu-1", launched.url, ["fake"])


def test_on_a_signal_the_gateway_stops_first_and_the_engine_is_told_when_it_is_done(
    launched: Launched, gateway: Server
) -> None:
    with httpx.stream("POST", f"{launched.url}/v1/chat/completions", json=SING, headers=CALLER, timeout=60) as song:
        lines = song.iter_lines()
        assert next(lines) == "data: la"
        launched.process.send_signal(signal.SIGTERM)
        wait_for(lambda: state(gateway) == "draining", "the gateway to be told")
        assert httpx.get(f"{launched.url}/ready").status_code == 200, "the engine was told before its call had ended"
        httpx.get(f"{launched.url}/finish")
        assert "data: [DONE]" in list(lines)
    assert launched.ended() == 0
    assert state(gateway) == "draining"
    assert "killed" not in launched.err


def test_an_agent_that_is_killed_is_started_again(launched: Launched, gateway: Server) -> None:
    [agent], registered = agents_of(launched), registered_at(gateway, "gpu-1")
    os.kill(agent, signal.SIGKILL)
    wait_for(lambda: registered_at(gateway, "gpu-1") > registered, "another agent to register", 30)
    assert state(gateway) == "ready"
    assert agents_of(launched) != [agent]
    assert "the agent ended with status -9, and is started again" in launched.err


def test_where_the_agent_cannot_leave_another_does(launched: Launched, gateway: Server) -> None:
    [agent] = agents_of(launched)
    os.kill(agent, signal.SIGKILL)
    launched.process.send_signal(signal.SIGTERM)
    wait_for(lambda: state(gateway) == "draining", "the gateway to be told", 30)
    assert launched.ended() == 0


@ON_LINUX
def test_an_agent_goes_on_without_its_launcher_and_ends_with_the_engine(launched: Launched, gateway: Server) -> None:
    [agent], engine = agents_of(launched), launched.ready_line["engine_pid"]
    launched.process.kill()
    launched.process.wait()
    lease = workers(gateway)["gpu-1"]["lease_until"]
    wait_for(lambda: workers(gateway)["gpu-1"]["lease_until"] > lease, "another heartbeat", 30)
    os.kill(engine, signal.SIGKILL)
    wait_for(lambda: state(gateway) == "draining", "the gateway to be told", 10)
    wait_for(lambda: not Path(f"/proc/{agent}").exists(), "the agent to end", 10)


def test_an_engine_that_dies_is_taken_out_at_once(launched: Launched, gateway: Server) -> None:
    os.kill(launched.ready_line["engine_pid"], signal.SIGKILL)
    wait_for(lambda: state(gateway) == "draining", "the gateway to be told", 10)
    assert launched.ended() == 128 + signal.SIGKILL


@ON_LINUX
def test_the_secret_of_the_fleet_is_the_agent_s_alone(launched: Launched) -> None:
    with open(f"/proc/{launched.ready_line['engine_pid']}/environ", encoding="utf-8") as given:
        assert SECRET not in given.read()
    assert SECRET not in launched.out + launched.err


@pytest.mark.parametrize(
    ("arguments", "secret", "said"),
    [
        (["--gateway", "http://127.0.0.1:1"], "", "PENSTOCK_FLEET_SECRET is not set"),
        (["--gateway", "127.0.0.1:1"], SECRET, "'127.0.0.1:1' is no address such as http://host:port"),
        (["--gateway", "http://elsewhere:8000"], SECRET, "say with --url what it is called there"),
        (["--id", "gpu-1"], SECRET, "give --gateway too"),
    ],
    ids=["no secret", "no address", "no way back", "no gateway"],
)
def test_what_cannot_work_is_told_before_anything_is_loaded(
    tmp_path: Path, arguments: list[str], secret: str, said: str
) -> None:
    with Launched(tmp_path, *arguments, PENSTOCK_FLEET_SECRET=secret) as launched:
        assert launched.ended() == 2
        assert said in launched.err
        assert "server_args" not in launched.err

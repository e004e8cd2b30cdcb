"""A server of several processes and its configuration file: all of them live by what it says, seconds later."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.server import Server, chat, penstock, wait_for

CONFIG = """\
auth: {api_keys: [test-key]}
server: {reload: RELOAD}
limits: {enabled: false}
providers:
  - {name: NAME, type: simulated, models: [echo], options: {ttft: 0}}
"""


def config(name: str, *, watched: bool) -> str:
    return CONFIG.replace("NAME", name).replace("RELOAD", str(watched).lower())


def providers(server: Server, count: int = 12) -> set[str]:
    """Who answers, over as many connections: each process accepts some of them."""
    found = set()
    for _ in range(count):
        with server.client() as client:
            reply = client.post("/v1/chat/completions", json=chat())
            assert reply.status_code == 200, reply.text
            found.add(str(reply.json()["_proxy_info"]["provider"]))
    return found


def test_a_change_of_the_file_reaches_every_process_by_itself(tmp_path: Path) -> None:
    with Server(tmp_path, config("one", watched=True), "--workers", "2") as server:
        assert providers(server) == {"one"}
        (tmp_path / "config.yaml").write_text(config("two", watched=True), encoding="utf-8")
        wait_for(lambda: providers(server) == {"two"}, "both processes to follow the file", 15)
        (tmp_path / "config.yaml").write_text("servr: {}\n", encoding="utf-8")
        wait_for(lambda: server.err.count("did you mean 'server'?") == 2, "both processes to refuse the file", 15)
        assert providers(server) == {"two"}


def test_a_signal_has_every_process_load_the_file_anew(tmp_path: Path) -> None:
    with Server(tmp_path, config("one", watched=False), "--workers", "2") as server:
        (tmp_path / "config.yaml").write_text(config("two", watched=False), encoding="utf-8")
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: providers(server) == {"two"}, "both processes to load the file anew", 15)
        assert server.process.poll() is None


def test_a_signal_reaches_a_server_of_one_process_as_well(tmp_path: Path) -> None:
    with Server(tmp_path, config("one", watched=False)) as server:
        (tmp_path / "config.yaml").write_text(config("two", watched=False), encoding="utf-8")
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: providers(server, 1) == {"two"}, "the file to be loaded anew", 15)


def test_one_call_to_any_process_reaches_them_all(tmp_path: Path) -> None:
    with Server(tmp_path, config("one", watched=False), "--workers", "2") as server:
        (tmp_path / "config.yaml").write_text(config("two", watched=False), encoding="utf-8")
        with server.client() as client:
            assert client.post("/v1/config/reload").json()["changes_detected"] is True
        wait_for(lambda: providers(server) == {"two"}, "both processes to load the file anew", 15)


def workers(server: Server) -> set[int]:
    """The processes that serve."""
    children = psutil.Process(server.process.pid).children()
    return {child.pid for child in children if any("spawn_main" in word for word in child.cmdline())}


def statuses(server: Server, count: int = 12) -> list[dict[str, Any]]:
    """What is told of the configuration, over as many connections."""
    found = []
    for _ in range(count):
        with server.client() as client:
            found.append(client.get("/v1/config/status").json())
    return found


def test_a_process_that_dies_while_the_file_is_wrong_comes_back_with_the_last_good_version(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    with Server(tmp_path, config("one", watched=True), "--workers", "2") as server:
        file.write_text(config("two", watched=True), encoding="utf-8")
        wait_for(lambda: providers(server) == {"two"}, "both processes to follow the file", 15)
        file.write_text("servr: {}\n", encoding="utf-8")
        wait_for(lambda: server.err.count("did you mean 'server'?") == 2, "both processes to refuse the file", 15)
        before = workers(server)
        for victim in before:
            os.kill(victim, signal.SIGKILL)
        told = "configuration 2 stays in force: config.yaml:1: servr"
        wait_for(lambda: server.err.count(told) == 4, "both that take their places to say what they live by", 60)
        assert len(workers(server)) == 2
        assert not workers(server) & before
        assert providers(server) == {"two"}
        for status in statuses(server):
            assert (status["status"], status["version"]) == ("invalid", 2)
            assert [mistake["key"] for mistake in status["validation_errors"]] == ["servr"]
        file.write_text(config("three", watched=True), encoding="utf-8")
        wait_for(lambda: providers(server) == {"three"}, "both to follow the file once it is mended", 15)
        assert {status["status"] for status in statuses(server)} == {"valid"}
        assert server.process.poll() is None


def test_a_server_does_not_start_with_a_wrong_file_though_another_left_its_folder(tmp_path: Path) -> None:
    folder = {"PENSTOCK_METRICS_FOLDER": str(tmp_path / "counted")}
    with Server(tmp_path, config("one", watched=True), "--workers", "2", **folder):
        pass
    (tmp_path / "config.yaml").write_text("servr: {}\n", encoding="utf-8")
    ended = penstock("serve", "--config", "config.yaml", "--workers", "2", folder=tmp_path, **folder)
    assert ended.returncode != 0
    assert "config.yaml:1: servr: nothing reads this key; did you mean 'server'?" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1

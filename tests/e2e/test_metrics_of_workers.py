"""``penstock serve --workers 3``: whoever answers a scrape tells what all of them have counted, the dead included."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.e2e.server import SIMULATED, Server, chat, wait_for

pytestmark = pytest.mark.timeout(240)
WORKERS = 3
ASKED = 60


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    variables = {"TMPDIR": str(tmp_path)}
    with Server(tmp_path, SIMULATED, "--workers", str(WORKERS), **variables) as running:
        yield running


def scrape(server: Server, name: str) -> float:
    """The sum of a metric's samples, over a connection of its own: any worker may answer."""
    with server.client() as client:
        text = client.get("/metrics").text
    return sum(sample.value for family in parse(text) for sample in family.samples if sample.name == name)


def ask(server: Server, number: int) -> None:
    """Ask so many times, each over a connection of its own."""
    for _ in range(number):
        with server.client() as client:
            assert client.post("/v1/chat/completions", json=chat(simulate={"tokens": 2})).status_code == 200


def workers(server: Server) -> list[psutil.Process]:
    """The processes that serve, by the lock that each of them holds open."""
    family = psutil.Process(server.process.pid).children(recursive=True)
    return [each for each in family if any(file.path.endswith(".lock") for file in each.open_files())]


def test_a_scrape_tells_of_all_workers_and_never_of_less_than_before(server: Server, tmp_path: Path) -> None:
    wait_for(lambda: len(workers(server)) == WORKERS, "all workers to serve")
    ask(server, ASKED)
    wait_for(lambda: scrape(server, "penstock_requests_total") == ASKED, "all requests to be counted")
    victim = workers(server)[0]
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait(60)
    assert scrape(server, "penstock_requests_total") == ASKED, "the dead worker's are still told"
    wait_for(lambda: len(workers(server)) == WORKERS, "another worker to take the place of the dead one")
    assert len(list(tmp_path.glob("penstock-metrics-*/dead.json"))) == 1
    seen = [float(ASKED)]
    for _ in range(10):
        ask(server, 3)
        seen.append(scrape(server, "penstock_requests_total"))
    assert seen == sorted(seen), "a counter never goes back, whoever answers"
    total = ASKED + 30
    wait_for(lambda: scrape(server, "penstock_requests_total") == total, "all requests to be counted")
    assert (
        scrape(server, "penstock_attempts_total") == scrape(server, "penstock_request_duration_seconds_count") == total
    )
    assert scrape(server, "penstock_attempts_in_flight") == 0
    told = httpx.get(f"{server.url}/metrics", headers={"accept": "application/json"}).json()
    assert told["providers"]["simulated"]["total_requests"] == told["summary"]["total_requests"] == total
    server.stop()
    assert not list(tmp_path.glob("penstock-metrics-*")), "the folder ends with the server"

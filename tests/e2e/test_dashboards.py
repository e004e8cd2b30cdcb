"""``infra/``: the real Prometheus scrapes a running gateway; every panel of the dashboard and every rule has data."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.server import ROOT, Server, chat, wait_for
from tests.ports import free_port

INFRA = ROOT / "infra"
needed = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="prometheus and promtool are not on PATH: apt-get install prometheus",
)
pytestmark = pytest.mark.timeout(240)
CONFIG = """\
auth: {api_keys: [test-key]}
limits: {gateway: {}, address: {}, key: {}, endpoint: {}, endpoints: {embeddings: {requests_per_minute: 1, burst: 1}}}
circuit_breaker: {failure_threshold: 1000}
jobs: {attempts: 1}
prices: [{provider: spare, input: 1000, output: 1000}]
providers:
  - {name: broken, type: simulated, models: [echo], options: {error: 503}}
  - {name: spare, type: simulated, models: [echo], priority: 2, options: {ttft: 0}}
  - {name: dear, type: simulated, models: [unpriced], options: {ttft: 0}}
  - {name: alone, type: simulated, models: [lost], max_retries: 1, retry_delay: 0.01, options: {error: 503}}
"""


def panels() -> list[tuple[str, str]]:
    """The title and the query of each panel, as Grafana sends it."""
    document = json.loads((INFRA / "grafana/dashboards/penstock.json").read_text(encoding="utf-8"))
    return [
        (panel["title"], target["expr"].replace("$__rate_interval", "1m").replace("$model", ".*"))
        for panel in document["panels"]
        for target in panel["targets"]
    ]


def rules() -> list[tuple[str, str]]:
    """The name and the query of each alert, without what is compared in it: that a number is there is what counts."""
    [group] = yaml.safe_load((INFRA / "prometheus/rules.yml").read_text(encoding="utf-8"))["groups"]
    parts = [(rule["alert"], part.strip()) for rule in group["rules"] for part in re.split(r"\s+and\s+", rule["expr"])]
    return [(alert, re.sub(r"\s*(==|>)\s*[0-9.]+$", "", part)) for alert, part in parts]


def work(server: Server) -> None:
    """Have something of everything happen once: answers, a stream, a fallback, retries, a refusal, a job."""
    with server.client() as client:
        assert client.post("/v1/chat/completions", json=chat()).status_code == 200
        assert client.post("/v1/chat/completions", json=chat(stream=True)).status_code == 200
        assert client.post("/v1/chat/completions", json=chat(model="unpriced")).status_code == 200
        assert client.post("/v1/chat/completions", json=chat(model="lost")).status_code == 503
        for _ in range(2):
            client.post("/v1/embeddings", json={"model": "echo", "input": "a"})
        client.post("/v1/chat/completions", json=chat(model="lost"), headers={"prefer": "respond-async"})


@contextmanager
def prometheus(folder: Path, gateway: Server) -> Iterator[httpx.Client]:
    """The real one, with our configuration and rules, but for the gateway's address and the pause between scrapes."""
    for name in ("prometheus.yml", "rules.yml"):
        text = (INFRA / "prometheus" / name).read_text(encoding="utf-8")
        text = text.replace("gateway:8000", f"127.0.0.1:{gateway.port}").replace("15s", "1s")
        (folder / name).write_text(text, encoding="utf-8")
    port = free_port()
    command = [
        *("prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"),
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with open(folder / "prometheus.log", "wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, verify=False) as client:
                yield client
        finally:
            process.terminate()


def ask(client: httpx.Client, query: str) -> list[float]:
    """The numbers that a query finds now; none if it is no answer yet."""
    try:
        answer = client.get("/api/v1/query", params={"query": query})
    except httpx.TransportError:
        return []
    if answer.status_code == 503:
        return []
    told: dict[str, Any] = answer.json()
    assert told["status"] == "success", told
    return [number for each in told["data"]["result"] if not math.isnan(number := float(each["value"][1]))]


@needed
@pytest.mark.row("I12", "D4")
def test_every_panel_and_every_rule_finds_data_in_a_real_prometheus(tmp_path: Path) -> None:
    with Server(tmp_path, CONFIG) as server, prometheus(tmp_path, server) as client:
        wait_for(lambda: ask(client, 'up{job="penstock"} == 1'), "Prometheus to scrape the gateway")
        work(server)
        missing = dict.fromkeys([*panels(), *rules()])
        assert len(missing) > 25

        def all_found() -> bool:
            work(server)
            for title, query in list(missing):
                if ask(client, query):
                    del missing[title, query]
            return not missing

        try:
            wait_for(all_found, "data for every query", 60)
        except AssertionError:
            pytest.fail("no data for " + "\n".join(f"{title}: {query}" for title, query in missing))
        firing = client.get("/api/v1/rules").json()["data"]["groups"][0]["rules"]
        assert {rule["health"] for rule in firing} == {"ok"}


@needed
def test_promtool_finds_nothing_wrong() -> None:
    for command in (("config", "prometheus.yml"), ("rules", "rules.yml")):
        checked = subprocess.run(
            ["promtool", "check", *command], cwd=INFRA / "prometheus", capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_compose_names_what_is_there() -> None:
    services = yaml.safe_load((INFRA / "compose.yaml").read_text(encoding="utf-8"))["services"]
    for service in services.values():
        for volume in service["volumes"]:
            if volume.startswith("."):
                assert (INFRA / volume.split(":")[0]).is_dir(), volume
    for line in services["gateway"]["build"]["dockerfile_inline"].splitlines():
        if line.startswith("COPY"):
            assert (ROOT / line.split()[1]).exists(), line
    [source] = yaml.safe_load((INFRA / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["uid"] in (INFRA / "grafana/dashboards/penstock.json").read_text(encoding="utf-8")
    [config] = yaml.safe_load((INFRA / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert config["static_configs"] == [{"targets": ["gateway:8000"]}]

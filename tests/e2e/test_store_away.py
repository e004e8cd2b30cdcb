"""A day on which another program holds the state file: nobody waits for it, keys in use still open, all is counted."""

from __future__ import annotations

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from penstock.core.keys import TRUSTED
from penstock.stores._breaker import THRESHOLD
from tests.e2e.server import KEY, SIMULATED, Server, penstock, wait_for

pytestmark = pytest.mark.timeout(240)


class Gateway(Server):
    """A server whose state can be asked for."""

    def status(self, path: str, key: str = KEY) -> int:
        with self.client(key) as client:
            return client.get(path).status_code

    def metric(self, name: str, **labels: str) -> float:
        """What /metrics says; nothing said is zero."""
        with self.client() as client:
            told = parse(client.get("/metrics").text)
        return sum(
            sample.value
            for family in told
            for sample in family.samples
            if (sample.name, sample.labels) == (name, labels)
        )

    def is_away(self) -> bool:
        return self.metric("penstock_state_breaker_open", store="sqlite") == 1

    def ask_all_at_once(self) -> None:
        """As many calls as it takes to notice; each of them waits for the file in vain."""
        with ThreadPoolExecutor(THRESHOLD) as threads:
            assert set(threads.map(self.status, ["/health"] * THRESHOLD)) <= {200, 503}


def test_while_the_store_is_away_nobody_waits_for_it(tmp_path: Path) -> None:
    with Gateway(tmp_path, SIMULATED) as server, closing(sqlite3.connect(tmp_path / ".penstock" / "state.db")) as other:
        key = penstock("keys", "new", folder=tmp_path).stdout.split()[0]
        assert server.status("/v1/models", key) == 200
        assert not server.is_away()

        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        wait_for(lambda: server.ask_all_at_once() or server.is_away(), "the breaker to open")
        refused = server.metric("penstock_state_calls_total", store="sqlite", result="refused_by_breaker")
        assert [server.status("/health") for _ in range(20)] == [503] * 20
        told = server.metric("penstock_state_calls_total", store="sqlite", result="refused_by_breaker")
        assert told >= refused + 15, "most of them did not even ask the store"

        def believed() -> float:
            """Use the key when it has not been read for too long to be believed without asking."""
            used = time.monotonic()
            while time.monotonic() < used + TRUSTED:
                server.ask_all_at_once()  # writes alone: a file that is locked can still be read, and that would end it
            assert server.status("/v1/models", key) == 200, "a key that was good opens as before"
            return server.metric("penstock_auth_cached_grants_total")

        wait_for(believed, "the key to be believed for want of an answer")
        wait_for(
            lambda: server.ask_all_at_once() or server.status("/v1/models", "psk-never-seen") == 503,
            "a key that nobody has seen to be refused for want of an answer",
        )

        other.execute("ROLLBACK")
        wait_for(lambda: server.status("/health") == 200, "the store to be found again")
        assert not server.is_away()
        opened = server.metric("penstock_state_breaker_opened_total", store="sqlite")
        assert opened >= 1
        assert server.status("/v1/models", "psk-nobody-has-ever-seen") == 401
        assert server.err.count("the store is away, so calls to it fail at once until it answers") == opened
        assert server.err.count("the store answers again") == opened
        assert "stayed locked by another process for 1.5 s" in server.err, "the cause is told to operators"
        assert "Traceback" not in server.err

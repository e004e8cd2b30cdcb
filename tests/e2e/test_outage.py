"""A long outage with every fault at once: nobody loses an answer that had not begun, and none that is cut looks whole.

``PENSTOCK_TEST_LONG=1`` makes many more calls, ``PENSTOCK_TEST_SEED`` throws the same dice again.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.outage import Outage
from tests.e2e.server import wait_for

LONG = os.environ.get("PENSTOCK_TEST_LONG") == "1"
CALLS = 20_000 if LONG else 1500
PEOPLE = 50
WANTED = 0.9995


@pytest.mark.timeout(1800 if LONG else 240)
async def test_an_outage_is_not_felt_where_one_provider_is_well(tmp_path: Path) -> None:
    seed = int(os.environ.get("PENSTOCK_TEST_SEED") or random.randrange(2**32))
    print(f"PENSTOCK_TEST_SEED={seed}")
    async with Outage(tmp_path, random.Random(seed)).open() as outage:
        await outage.run(CALLS, PEOPLE)
        print(outage.table())
        sums = outage.total()
        could_be_saved = sums["calls"] - sums["cut"]
        assert 1 - sums["lost"] / could_be_saved >= WANTED, outage.lost
        assert all(told.code for _, _, told in outage.lost), "a wrong or truncated answer looks like a right one"
        assert all(row.moved_on or not row.met for row in outage.rows.values() if not row.cut)
        assert sums["met"] > CALLS / 10, "hardly anybody met a fault"
        assert sums["cut"], "no stream was cut"
        ledger = wait_for(lambda: settled(outage, CALLS), "every call to stand in the ledger")
        assert sum(outcome["ended"] == "failed" for outcome in ledger) == sums["cut"] + sums["lost"]
        await outage.recovered()


def settled(outage: Outage, calls: int) -> list[dict[str, Any]]:
    """The ledger, once it holds so many calls: each of them once."""
    ledger = outage.server.outcomes()
    assert len(ledger) <= calls
    return ledger if len(ledger) == calls else []

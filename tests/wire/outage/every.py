"""All faults by their names."""

from __future__ import annotations

from tests.wire.outage import connections, statuses, streams
from tests.wire.outage.faults import Fault

FAULTS: dict[str, Fault] = {**statuses.FAULTS, **connections.FAULTS, **streams.FAULTS}

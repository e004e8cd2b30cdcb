"""Faults on purpose between this process and its providers, where the configuration wants them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.core.ports import Connection
from penstock.schema.model import Deployment

if TYPE_CHECKING:
    from penstock.schema.chaos_section import ChaosSection

log = logging.getLogger("penstock.chaos")

Connect = Callable[[Deployment], Connection]


def with_chaos(connect: Connect, section: ChaosSection | None) -> Connect:
    """Makes connections on which faults happen; where none are wanted, just as they were."""
    if section is None or not section.enabled or not section.faults:
        return connect
    from penstock.providers._chaos import Chaos  # noqa: PLC0415 - for those who want it

    log.warning("chaos is on: %d faults are put into calls to providers", len(section.faults))
    chaos = Chaos(section)

    def unsteady(deployment: Deployment) -> Connection:
        return chaos.around(deployment, connect(deployment))

    return unsteady

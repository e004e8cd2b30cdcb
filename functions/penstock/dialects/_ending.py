"""How a stream ends, whatever happens: whole, with a typed error event, or as a plain error while nothing is out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from penstock.core.json import to_json
from penstock.dialects._exchange import ErrorForm, EventStream, Exchange, Watch, stopping
from penstock.errors import PenstockError


@asynccontextmanager
async def ending(exchange: Exchange, watch: Watch, events: EventStream, form: ErrorForm) -> AsyncIterator[None]:
    """A block that sends a stream's events. The response is left open, unless the server is being stopped."""
    try:
        yield
        await events.end()
    except PenstockError as error:
        if not exchange.started:
            raise
        await events.end(to_json(form(error)))
    except asyncio.CancelledError:
        if exchange.started and not watch.gone:
            await events.end(to_json(form(stopping())))
            await exchange.write(b"", more=False)
        raise
    finally:
        events.close()

"""The addresses of hosts."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

Found = list[Any]


class Resolver:
    """Looks names up, each once at a time: who asks meanwhile has the same answer.

    A loop has only a few threads for this. A name whose servers do not answer, as in a provider's outage, would
    otherwise take all of them for as long as the resolver is patient, and nobody could find the next provider. Where
    strangers choose the names, it has as many ``threads`` of its own.
    """

    def __init__(self, threads: int = 0) -> None:
        self._asking: dict[str, asyncio.Task[Found]] = {}
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="penstock-names") if threads else None

    async def addresses(self, host: str) -> list[str]:
        """The addresses of a host, best first. Raises ``OSError`` or ``UnicodeError`` if there are none."""
        if _is_address(host):
            return [host]
        asking = self._asking.get(host)
        if asking is None:
            asking = self._asking[host] = asyncio.ensure_future(self._look_up(host))
            asking.add_done_callback(lambda task: self._answered(host, task))
        found = await asyncio.shield(asking)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    def close(self) -> None:
        """Ask no more."""
        for asking in tuple(self._asking.values()):
            asking.cancel()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _look_up(self, host: str) -> Found:
        loop = asyncio.get_running_loop()
        if self._threads is None:
            return await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return await loop.run_in_executor(
            self._threads, partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
        )

    def _answered(self, host: str, asking: asyncio.Task[Found]) -> None:
        self._asking.pop(host, None)
        if not asking.cancelled():
            asking.exception()  # whoever waited may be gone


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True

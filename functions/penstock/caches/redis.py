"""A Redis or Valkey server behind caches: ``redis://host:port/0``, ``rediss://`` with TLS, or ``valkey://`` and
``valkeys://``. Needs the extra ``redis``.

Each value is a hash under ``penstock:cached:{key}``, with who is about to bring it; the server's own TTL forgets it.
What it may take at most is the server's to know (``maxmemory`` and ``maxmemory-policy allkeys-lru``).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from math import ceil
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from penstock.core.ports.caching import Cached
from penstock.errors import RequestTooLarge, StateError

PREFIX = "penstock:cached:"
LARGEST = 8 * 1024 * 1024
"""Bytes of a value at most: a server of one thread sends nobody else anything meanwhile."""
PATIENCE = 0.4
CONNECTIONS = 32
LINGER = 60_000
"""Milliseconds after a claim's end when a hash that never got a value may go."""

_CLAIM = f"""
local held = redis.call('HMGET', KEYS[1], 'at', 'expires', 'filler', 'until')
local now = tonumber(ARGV[2])
if held[1] and tonumber(held[1]) > tonumber(ARGV[4]) and tonumber(held[2]) > now then return 0 end
if held[3] and held[3] ~= ARGV[1] and tonumber(held[4]) > now then return 0 end
redis.call('HSET', KEYS[1], 'filler', ARGV[1], 'until', ARGV[3])
local wanted = math.ceil((tonumber(ARGV[3]) - now) * 1000) + {LINGER}
if redis.call('PTTL', KEYS[1]) < wanted then redis.call('PEXPIRE', KEYS[1], wanted) end
return 1
"""
_RELEASE = """
if redis.call('HGET', KEYS[1], 'filler') == ARGV[1] then return redis.call('HDEL', KEYS[1], 'filler', 'until') end
return 0
"""


class RedisBacking:
    """A ``CacheBacking`` on one server; nothing is sent before it is first used."""

    def __init__(self, url: str) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=PATIENCE,
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
            retry=Retry(NoBackoff(), 1),  # a connection that idled may have been closed
        )
        self._redis = Redis.from_pool(pool)

    async def close(self) -> None:
        """Close the connections; idempotent."""
        await self._redis.aclose()

    async def find_cached(self, key: str, *, now: float) -> Cached | None:
        """The value, unless there is none or its time is over."""
        value, expires = await _answer(self._redis.hmget(PREFIX + key, "value", "expires"))
        if value is None or float(expires) <= now:
            return None
        return Cached(value, float(expires))

    async def keep_cached(self, key: str, value: bytes, *, now: float, expires: float) -> None:
        """Keep a value in the place of any other, and nobody is about to bring it any more.

        Raises ``RequestTooLarge`` if no connection should be held up by it.
        """
        if len(value) > LARGEST:
            raise RequestTooLarge(f"A cached value may have {LARGEST} bytes, and this has {len(value)}.")
        async with self._redis.pipeline(transaction=True) as together:
            together.delete(PREFIX + key)
            together.hset(PREFIX + key, mapping={"value": value, "at": repr(now), "expires": repr(expires)})
            together.pexpire(PREFIX + key, max(1, ceil((expires - now) * 1000)))
            await _answer(together.execute())

    async def claim_fill(self, key: str, filler: str, *, now: float, until: float, stale: float) -> bool:
        """Be the one who brings the value, or be it longer; ``False`` while another is, or if one is there."""
        told = self._redis.eval(_CLAIM, 1, PREFIX + key, filler, repr(now), repr(until), repr(stale))
        return bool(await _answer(told))

    async def release_fill(self, key: str, filler: str) -> None:
        """Bring nothing after all; nothing changes where another has been at it meanwhile."""
        await _answer(self._redis.eval(_RELEASE, 1, PREFIX + key, filler))


async def _answer(call: Any) -> Any:
    """The server's answer; ``StateError`` if there is none."""
    try:
        return await cast(Awaitable[Any], call)
    except (RedisError, OSError, TimeoutError) as error:
        raise StateError(f"Redis did not answer: {type(error).__name__}") from error


def connect(url: str) -> RedisBacking:
    """The server that ``url`` names. Raises ``ValueError`` if it names none."""
    return RedisBacking(re.sub(r"^valkey", "redis", url))

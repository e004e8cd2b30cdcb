"""Virtual keys: making them, and telling who holds one."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from penstock.core.counters import Counter
from penstock.core.ports import Store
from penstock.errors import Authentication, PermissionDenied, StateError
from penstock.schema.act import Act
from penstock.schema.key import ANONYMOUS, INFERENCE, Caller, VirtualKey
from penstock.schema.secret import Secret

FRESH = 2.5
"""Seconds after which a key is read from the store again, behind the back of the request that needs it."""
TRUSTED = 2 * FRESH
"""Seconds after which a request waits for that: a revoked key opens nothing once they have passed."""
STALE = 300.0
"""Seconds for which a key that was good is still believed while the store cannot answer."""
CAPACITY = 10_000

CACHED_GRANTS = Counter(
    "penstock_auth_cached_grants_total", "Requests whose key was believed only because the store could not answer."
)

PREFIX = "key_"
"""How the ids of virtual keys begin."""
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def generate(length: int = 40, prefix: str = "psk") -> Secret:
    """A new key from the system's cryptographic source: ``length`` letters and digits after ``prefix-``."""
    letters = "".join(secrets.choice(ALPHABET) for _ in range(length))
    return Secret(f"{prefix}-{letters}" if prefix else letters)


def new_key(secret: Secret, **fields: Any) -> VirtualKey:
    """The record of a key: its hash, a hint of its last four characters, and the given fields of ``VirtualKey``."""
    return VirtualKey(
        id=PREFIX + secrets.token_hex(8),
        sha256=secret.sha256(),
        hint="…" + secret.reveal()[-4:],
        created_at=time.time(),
        **fields,
    )


def rotated(key: VirtualKey, secret: Secret, *, until: float) -> VirtualKey:
    """The key's next revision, opened by ``secret``, and by the one before it ``until`` then."""
    return replace(
        key,
        sha256=secret.sha256(),
        hint="…" + secret.reveal()[-4:],
        previous_sha256=key.sha256,
        previous_until=until,
        revision=key.revision + 1,
    )


async def record_act(store: Store, actor: str, action: str, target: str, detail: str = "") -> None:
    """Write an administrative act into the audit trail: before the act, so that none goes unrecorded."""
    await store.record_act(Act("act_" + secrets.token_hex(8), time.time(), actor, action, target, detail))


@dataclass(slots=True)
class _Known:
    key: VirtualKey | None
    caller: Caller | None
    asked_at: float


def _caller(key: VirtualKey) -> Caller:
    return Caller(
        *(key.id, key.owner, key.priority, key.scopes, key.models),
        limits=key.limits,
        budget=key.budget,
        providers=key.providers,
    )


class Keyring:
    """Tells who holds a key, from a cache that is at most a few seconds old.

    A key in use is read again in time, so that no request waits for it. Its age counts from when the store was asked.

    ``configured`` holds the keys that came with the configuration, by their SHA-256. With ``required`` off, a request
    without a key is anonymous.
    """

    def __init__(self, store: Store, configured: Mapping[str, Caller], *, required: bool = True) -> None:
        self._store = store
        self._configured = configured
        self._required = required
        self._known: dict[str, _Known] = {}
        self._reading: dict[str, asyncio.Task[_Known]] = {}

    def succeed(self, before: Keyring) -> None:
        """Know the keys that another has read."""
        self._known = before._known

    async def authenticate(self, presented: str | None, scope: str | None = INFERENCE) -> Caller:
        """The caller who holds this key, whatever it is good for where no ``scope`` is asked for.

        Raises ``Authentication``, ``PermissionDenied`` without the scope, ``StateError`` if nobody can tell.
        """
        if not self._required:
            return ANONYMOUS
        if not presented:
            raise Authentication("No API key was given: send it as 'Authorization: Bearer <key>'.")
        sha256 = Secret(presented).sha256()
        caller = self._configured.get(sha256)
        if caller is None:
            known = self._known.get(sha256)
            age = time.monotonic() - known.asked_at if known else TRUSTED
            if known is None or age >= (TRUSTED if known.key else FRESH):
                known = await self._read(sha256, known)
            elif age >= FRESH:
                self._reading_of(sha256)
            if known.key is None or known.caller is None:
                raise Authentication("This API key is not known here.")
            if known.key.revoked_at is not None:
                raise Authentication("This API key has been revoked.")
            if not known.key.opened_by(sha256, time.time()):
                raise Authentication("This API key has expired.")
            caller = known.caller
        if scope is not None and scope not in caller.scopes:
            raise PermissionDenied(f"This API key lacks the scope {scope!r}.")
        return caller

    async def holder(self, key_id: str) -> Caller:
        """The caller whom a key of this id stands for now. Raises ``Authentication`` if it opens nothing any more."""
        if key_id == ANONYMOUS.key_id or not key_id.startswith(PREFIX):  # one that came with a configuration
            return Caller(key_id)
        key = await self._store.read_key(key_id)
        if key is None or not key.active(time.time()):
            raise Authentication("The API key that asked for this has been revoked or has expired.")
        return _caller(key)

    async def _read(self, sha256: str, known: _Known | None) -> _Known:
        """What the store says now, or what is ``known`` if it cannot answer and that is believed for so long."""
        earlier = self._reading.get(sha256)
        try:
            if earlier is not None:
                with suppress(StateError):  # it may have been begun long ago, before this process was frozen
                    return await asyncio.shield(earlier)
            return await asyncio.shield(self._reading_of(sha256))
        except StateError:
            if known is not None and known.key is not None and time.monotonic() - known.asked_at < STALE:
                CACHED_GRANTS.add()
                return known
            raise

    def _reading_of(self, sha256: str) -> asyncio.Task[_Known]:
        """The one task that reads this key: everybody who needs it shares it."""
        task = self._reading.get(sha256)
        if task is None:
            task = self._reading[sha256] = asyncio.ensure_future(self._find(sha256))
            task.add_done_callback(lambda done: self._read_is_over(sha256, done))
        return task

    def _read_is_over(self, sha256: str, task: asyncio.Task[_Known]) -> None:
        del self._reading[sha256]
        if not task.cancelled():
            task.exception()  # those who wait for it are told; there may be nobody left

    async def _find(self, sha256: str) -> _Known:
        asked_at = time.monotonic()
        key = await self._store.find_key(sha256)
        caller = _caller(key) if key else None
        if len(self._known) >= CAPACITY:
            for oldest in list(self._known)[: CAPACITY // 10]:
                del self._known[oldest]
        self._known.pop(sha256, None)
        known = self._known[sha256] = _Known(key, caller, asked_at)
        return known

"""Virtual keys: what callers hold, and who a caller is once the key is known."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from penstock.schema.limit import Budget, Limits
from penstock.schema.model import Deployment

INFERENCE = "inference"
METRICS = "metrics"
ADMIN = "admin"
SCOPES = frozenset({INFERENCE, METRICS, ADMIN})
EVERY = ("*",)


@dataclass(frozen=True, slots=True)
class VirtualKey:
    """One key as the store holds it. Times are seconds since the epoch; the key itself is kept as its SHA-256 alone.

    After a rotation the key before the present one still opens until ``previous_until``. Each change counts the
    ``revision`` up. ``limits`` and ``budget`` stand in the place of the configuration's for every key. ``models`` and
    ``providers`` are globs of names.
    """

    id: str
    sha256: str
    hint: str
    description: str = ""
    owner: str = ""
    priority: int = 0
    scopes: tuple[str, ...] = (INFERENCE,)
    models: tuple[str, ...] = EVERY
    created_at: float = 0.0
    expires_at: float | None = None
    revoked_at: float | None = None
    tags: tuple[str, ...] = ()
    previous_sha256: str = ""
    previous_until: float = 0.0
    revision: int = 1
    limits: Limits | None = None
    budget: Budget | None = None
    providers: tuple[str, ...] = EVERY

    def active(self, now: float) -> bool:
        """Whether the key opens anything at ``now``."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def opened_by(self, sha256: str, now: float) -> bool:
        """Whether a key with this hash opens it at ``now``: the present one, or the one before within its grace."""
        return self.active(now) and (
            sha256 == self.sha256 or (sha256 == self.previous_sha256 and now < self.previous_until)
        )


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a key's rights without the key."""

    key_id: str
    owner: str = ""
    priority: int = 0
    scopes: tuple[str, ...] = (INFERENCE,)
    models: tuple[str, ...] = EVERY
    limits: Limits | None = None
    budget: Budget | None = None
    providers: tuple[str, ...] = EVERY

    def may_use(self, model: str) -> bool:
        """Whether a glob of this key's allow-list admits the public model name."""
        return self.models == EVERY or any(fnmatchcase(model, glob) for glob in self.models)

    def may_reach(self, place: Deployment) -> bool:
        """Whether the key is pinned to no providers, or to this one; a worker answers to ``workers`` as well."""
        return self.providers == EVERY or any(
            fnmatchcase(name, glob) for glob in self.providers for name in (place.provider, place.pool)
        )


ANONYMOUS = Caller(key_id="anonymous", scopes=(INFERENCE,))

"""What the core asks of a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from penstock.core.ports.alerts import AlertStore
from penstock.core.ports.caching import CacheStore
from penstock.core.ports.configs import ConfigStore
from penstock.core.ports.webhooks import WebhookStore
from penstock.schema.act import Act
from penstock.schema.batch import Batch
from penstock.schema.file import File
from penstock.schema.job import DueJob, Job
from penstock.schema.key import VirtualKey
from penstock.schema.meter import Claim, Hold, Meter, Settlement, Verdict
from penstock.schema.model import ModelCard, Registry, Selection
from penstock.schema.notice import Notice
from penstock.schema.outcome import Outcome
from penstock.schema.traffic import Traffic
from penstock.schema.usage import UsageLine
from penstock.schema.worker import Load, Worker


class Store(AlertStore, CacheStore, ConfigStore, WebhookStore, Protocol):
    """Durable state, shared by every process on the same address.

    Every operation is atomic and raises ``StateError`` when the store cannot answer. Time comes in as an argument, so
    that tests and a clock that jumps decide nothing.
    """

    async def open(self) -> None:
        """Make ready: create what is missing, check what is there."""
        ...

    async def close(self) -> None:
        """Release files and connections; idempotent."""
        ...

    async def ping(self) -> None:
        """Raise ``StateError`` unless a read and a write would work now."""
        ...

    async def create_key(self, key: VirtualKey) -> None:
        """Keep a new key; ``StateConflict`` if its id or its hash exists already."""
        ...

    async def find_key(self, sha256: str) -> VirtualKey | None:
        """The key whose present or previous hash this is, active or not, or ``None``."""
        ...

    async def read_key(self, id: str) -> VirtualKey | None:
        """The key with this id, active or not, or ``None``."""
        ...

    async def list_keys(self) -> list[VirtualKey]:
        """Every key, oldest first."""
        ...

    async def revoke_key(self, id: str, at: float) -> VirtualKey | None:
        """Revoke for good; the first revocation's time stays. ``None`` if there is no such key."""
        ...

    async def replace_key(self, key: VirtualKey) -> None:
        """Write a key's next revision; ``StateConflict`` unless the one before it is the present one.

        A new ``sha256`` opens the key from now on; the one before it still finds the key if it is ``previous_sha256``.
        """
        ...

    async def record_act(self, act: Act) -> None:
        """Append to the audit trail, once an id."""
        ...

    async def list_acts(self, *, limit: int = 100) -> list[Act]:
        """The newest acts first."""
        ...

    async def record_outcomes(self, outcomes: Sequence[Outcome]) -> int:
        """Append to the ledger, once a request id; answers how many were new. A repeat changes nothing."""
        ...

    async def list_outcomes(self, *, key_id: str | None = None, since: float = 0.0, limit: int = 100) -> list[Outcome]:
        """Newest first, at most ``limit``, those that started at or after ``since``."""
        ...

    async def sum_usage(self, *, since: float, until: float, key_id: str | None = None) -> list[UsageLine]:
        """The outcomes that started at or after ``since`` and before ``until``, summed up.

        By day, key, owner and model, in this order; of one key or of all.
        """
        ...

    async def sum_traffic(self, *, since: float, until: float, limit: int) -> Traffic:
        """The outcomes that started at or after ``since`` and before ``until``, by who was tried.

        No more than about ``limit`` are read, the newest: then what is told of begins later, and says when.
        """
        ...

    async def prune_outcomes(self, before: float) -> int:
        """Forget outcomes that started before; answers how many (0 where the backend's own TTL does it)."""
        ...

    async def register_worker(self, worker: Worker) -> None:
        """Keep a worker, in the place of any earlier generation of its id."""
        ...

    async def beat_worker(self, id: str, generation: str, state: str, load: Load, *, until: float) -> Worker | None:
        """Renew a worker's lease and load; ``None`` if it is not known, or another generation is. Draining stays."""
        ...

    async def drain_worker(self, id: str) -> Worker | None:
        """Send a worker no more requests; ``None`` if it is not known."""
        ...

    async def list_workers(self, now: float) -> list[Worker]:
        """Every worker, by id; those that are gone for an hour more."""
        ...

    async def post_notice(self, notice: Notice) -> None:
        """Put up a notice in the place of an earlier one about the same; one that began later stays."""
        ...

    async def list_notices(self, now: float) -> list[Notice]:
        """The notices that are to be believed, by place and subject."""
        ...

    async def take_duty(self, name: str, holder: str, *, now: float, until: float) -> bool:
        """Take a duty, or keep it longer; ``False`` while another holds it."""
        ...

    async def load_registry(self) -> Registry:
        """The registry's newest version."""
        ...

    async def publish_registry(
        self, cards: Sequence[ModelCard], selections: Sequence[Selection] = (), *, expected: int, at: float
    ) -> Registry:
        """Replace version ``expected`` by the next; ``StateConflict`` if another was published meanwhile."""
        ...

    async def create_job(self, job: Job) -> None:
        """Keep a new job; ``StateConflict`` if its id exists, ``RequestTooLarge`` if the store cannot hold it."""
        ...

    async def replace_job(self, job: Job, *, seen: Job) -> bool:
        """Put a job in the place of one with its id; ``False`` if that one is not as it was ``seen`` any more.

        The new one must have another number of ``claims``. Raises ``RequestTooLarge`` if the store cannot hold it.
        """
        ...

    async def find_job(self, id: str) -> Job | None:
        """The job, or ``None``."""
        ...

    async def claim_job(self, id: str, runner: str, *, now: float, lease: float) -> Job | None:
        """Take a queued job, or one whose lease ran out, for ``lease`` seconds; ``None`` if it is not to be had.

        It is due again when the lease ends, which the runner renews.
        """
        ...

    async def renew_job(self, id: str, runner: str, *, now: float, lease: float) -> bool:
        """Keep a job that one holds for ``lease`` seconds more; ``False`` if it ended or is another's now."""
        ...

    async def release_job(self, id: str, runner: str, *, due_at: float, failed: bool, parked: bool = False) -> bool:
        """Give a job back that one holds, as a try that ``failed`` or as one that did not begin.

        It is queued again, and due at a time; the work on one that did not begin starts anew. One that is ``parked`` is
        among those that wait for their model, until it is claimed. ``False`` if it ended or is another's now.
        """
        ...

    async def finish_job(
        self,
        id: str,
        runner: str,
        *,
        now: float,
        expires: float,
        result: bytes = b"",
        error: str = "",
        tell_at: float | None = None,
    ) -> bool:
        """Write the end once, only by the runner that holds it; ``False`` if it ended already or is another's now.

        The body is forgotten with it. With ``tell_at`` it is due then, until ``told_job``. Raises ``RequestTooLarge``
        if the store cannot hold the result.
        """
        ...

    async def cancel_job(self, id: str, *, now: float, expires: float, tell_at: float | None = None) -> bool:
        """End an open job without a result; ``False`` if it ended already, or there is none.

        With ``tell_at`` it is due then, until ``told_job``.
        """
        ...

    async def due_jobs(self, now: float, *, limit: int) -> list[DueJob]:
        """Jobs that somebody must be told of, the longest overdue first."""
        ...

    async def parked_jobs(self, model: str, *, limit: int) -> list[DueJob]:
        """The jobs that wait for a model: the highest priority first, among equals the oldest."""
        ...

    async def postpone_job(self, id: str, *, seen: float, due_at: float) -> bool:
        """Say when a job is due again; ``False`` if it is not due as it was ``seen`` any more."""
        ...

    async def told_job(self, id: str) -> bool:
        """Make a job that has ended due no more, for its end was told; ``False`` if it is open or was not due."""
        ...

    async def append_chunks(
        self, job_id: str, run: int, first: int, payloads: Sequence[bytes], *, expires: float
    ) -> None:
        """Keep payloads of one run of a job, numbered from ``first``; a repeat changes nothing.

        Each run has numbers of its own, from 1: who was succeeded writes beside its successor. Payloads hold no line
        breaks. Raises ``RequestTooLarge`` if the store cannot hold them.
        """
        ...

    async def read_chunks(self, job_id: str, run: int, *, after: int) -> list[bytes]:
        """Payloads of one run from number ``after`` + 1 on, without a gap: none only if there are none."""
        ...

    async def prune_jobs(self, now: float) -> int:
        """Forget jobs that have expired, and what they said; answers how many jobs (0 where a TTL does it)."""
        ...

    async def create_file(self, file: File) -> None:
        """Keep a new file's record; ``StateConflict`` if its key has one of this id."""
        ...

    async def replace_file(self, file: File, *, now: float) -> bool:
        """Write what is known of a file by now; ``False`` if there is none, or it has expired."""
        ...

    async def find_file(self, key_id: str, id: str) -> File | None:
        """The key's file, seen or not, or ``None``."""
        ...

    async def list_files(
        self, key_id: str, *, now: float, limit: int, after: str = "", oldest_first: bool = False, purpose: str = ""
    ) -> list[File]:
        """The key's files that are seen, newest first by their ids, beyond the one ``after``."""
        ...

    async def expired_files(self, now: float, *, limit: int) -> list[File]:
        """Files of any key that have expired and are not removed yet."""
        ...

    async def remove_file(self, file: File) -> None:
        """Forget a file's record; one that is not there is no error."""
        ...

    async def create_batch(self, batch: Batch) -> None:
        """Keep a new batch; ``StateConflict`` if its key has one of this id."""
        ...

    async def find_batch(self, key_id: str, id: str) -> Batch | None:
        """The key's batch, or ``None``."""
        ...

    async def replace_batch(self, batch: Batch) -> None:
        """Write a batch's next revision; ``StateConflict`` unless the one before it is the present one."""
        ...

    async def list_batches(self, key_id: str, *, now: float, limit: int, after: str = "") -> list[Batch]:
        """The key's batches, newest first by their ids, beyond the one ``after``."""
        ...

    async def prune_batches(self, now: float) -> int:
        """Forget batches that are kept no longer; answers how many (0 where the backend's own TTL does it)."""
        ...

    async def reserve(self, id: str, claims: Sequence[Claim], *, now: int, expires: int) -> Verdict:
        """Grant every claim, or none; holds of the granted ones are kept under ``id`` until they are settled.

        Times in nanoseconds since the epoch. Holds that have expired are ended first where they stand in the way. A
        repeat of the same ``id`` grants nothing twice that is held.
        """
        ...

    async def settle(self, settlements: Sequence[Settlement]) -> int:
        """End holds, each once; answers how many had not ended yet. A repeat changes nothing."""
        ...

    async def end_expired(self, now: int) -> list[Hold]:
        """End the holds that nobody settled in time, as spent; answers those that this call has ended."""
        ...

    async def read_meter(self, meter: str) -> Meter:
        """A meter as it is now; an empty one if nothing was ever taken."""
        ...

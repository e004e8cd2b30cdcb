"""The parts of a house that have to do with jobs, files and batches."""

from __future__ import annotations

from typing import Any, NamedTuple

from penstock.bootstrap.backends import Ground, room_of
from penstock.core.batches.accepting import Batches
from penstock.core.batches.driver import Driver
from penstock.core.batches.turns import Turns
from penstock.core.files.shelf import Shelf
from penstock.core.fleet import Fleet
from penstock.core.gateway import Gateway
from penstock.core.guests import Guests
from penstock.core.jobs.bulk import Bulk
from penstock.core.jobs.consumer import Consumer
from penstock.core.jobs.following import Follower
from penstock.core.jobs.inplace import InPlace
from penstock.core.jobs.pulled import PulledJobs
from penstock.core.jobs.repeats import Repeats
from penstock.core.jobs.resender import Resender
from penstock.core.jobs.runner import JobRunner
from penstock.core.jobs.submission import Submissions, Terms
from penstock.core.jobs.usher import Usher
from penstock.core.keys import Keyring
from penstock.core.sweeper import Sweeper
from penstock.core.webhooks.announcer import Announcer
from penstock.house import House
from penstock.providers._posted import Letters
from penstock.schema.batch import ENDPOINT as BATCHES
from penstock.schema.config import Document
from penstock.settings import Settings


class Others(NamedTuple):
    """The parts of the same house that have to do with requests."""

    gateway: Gateway
    keyring: Keyring
    fleet: Fleet
    announcer: Announcer
    guests: Guests


def build_jobs(settings: Settings, ground: Ground, others: Others, before: House | None) -> dict[str, Any]:
    """These parts by their names in the house; the consumer is that of the house ``before``."""
    gateway, keyring, fleet, told, guests = others
    document, store, queue, channels = settings.document, ground.store, ground.queue, ground.channels
    bulk, files = Bulk(ground.objects, room_of(settings)), Shelf(store, ground.objects, document.files)
    terms, usher = _terms(document), Usher(store, queue, _rooms(document))
    driver = Driver(store, queue, files, bulk, document.batches, longest=document.request.max_body_bytes)
    errands = {BATCHES: Turns(store, queue, driver, told).take}
    parts: dict[str, Any] = {"bulk": bulk, "channels": channels, "announcer": told}
    runner = JobRunner(*(store, queue, gateway, keyring, terms), usher=usher, guests=guests, errands=errands, **parts)
    jobs, grace = document.jobs.concurrency, document.server.grace
    consumer = before.consumer if before else Consumer(queue, runner, concurrency=jobs, grace=grace)
    submissions = Submissions(store, queue, gateway, terms, **parts)
    return {
        "jobs": submissions,
        "follower": Follower(store, channels, bulk),
        "repeats": Repeats(store, retention=terms.retention),
        "runner": runner,
        "inplace": InPlace(gateway, submissions, runner, consumer),
        "pulled": PulledJobs(store, fleet, gateway, runner, Letters()),
        "resender": Resender(store, queue, told),
        "files": files,
        "batches": Batches(store, queue, files),
        "sweeper": Sweeper(store, ground.objects, files, terms),
        "usher": usher,
        "consumer": consumer,
    }


def _terms(document: Document) -> Terms:
    kept = document.jobs
    return Terms(kept.retention, kept.timeout, kept.attempts, kept.time_limit)


def _rooms(document: Document) -> dict[str, int]:
    """How many requests of a model may be under way, where that is limited."""
    limits = document.limits
    return {name: each.concurrency for name, each in limits.models.items() if limits.enabled and each.concurrency}

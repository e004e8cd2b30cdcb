"""Chooses the concrete parts of a process and puts them together; nobody else does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from penstock import plugs
from penstock.bootstrap.alerts import build_alerts
from penstock.bootstrap.backends import build_objects, build_queue, build_store, room_of
from penstock.bootstrap.caches import build_caches, build_memory_guard
from penstock.bootstrap.chaos import with_chaos
from penstock.bootstrap.classification import build_classification
from penstock.bootstrap.condensing import build_condenser
from penstock.bootstrap.logs import configure_logs
from penstock.bootstrap.metrics import build_spans, build_tell, build_tracer, build_vitals
from penstock.bootstrap.places import deployments
from penstock.bootstrap.templates import build_templates
from penstock.core.batches.accepting import Batches
from penstock.core.batches.driver import Driver
from penstock.core.batches.turns import Turns
from penstock.core.cache.caches import Caches
from penstock.core.files.shelf import Shelf
from penstock.core.fleet import Fleet, Workplace
from penstock.core.gateway import Gateway
from penstock.core.health import Prober
from penstock.core.housekeeper import Housekeeper
from penstock.core.jobs.bulk import Bulk
from penstock.core.jobs.consumer import Consumer
from penstock.core.jobs.following import Follower
from penstock.core.jobs.inplace import InPlace
from penstock.core.jobs.pulled import PulledJobs
from penstock.core.jobs.recording import Channels
from penstock.core.jobs.repeats import Repeats
from penstock.core.jobs.resender import Resender
from penstock.core.jobs.runner import JobRunner
from penstock.core.jobs.submission import Submissions, Terms
from penstock.core.jobs.usher import Usher
from penstock.core.keys import Keyring
from penstock.core.limits.limiter import Limiter
from penstock.core.limits.reaper import Reaper
from penstock.core.limits.terms import Plan
from penstock.core.metering import Ledger
from penstock.core.pool import Pool
from penstock.core.ports import Connection, Store
from penstock.core.prices import Catalog
from penstock.core.registry import ModelRegistry
from penstock.core.routing.breaker import Bounds
from penstock.core.routing.router import Router
from penstock.core.routing.warming import Start
from penstock.core.sweeper import Sweeper
from penstock.core.webhooks.desk import WebhookDesk, furnish
from penstock.errors import UpstreamUnavailable
from penstock.house import House
from penstock.outbound import HttpClient
from penstock.outbound.outlet import GuardedOutlet
from penstock.providers._posted import Letters
from penstock.providers._profiles import PROFILES
from penstock.schema.batch import ENDPOINT as BATCHES
from penstock.schema.config import Document
from penstock.schema.model import Deployment
from penstock.settings import Settings

if TYPE_CHECKING:
    from penstock.tracing import Spans

EAGER = ("", "job_runner")


def build(settings: Settings) -> House:
    """Put a process together; nothing is opened yet. Raises ``SettingsError``."""
    document = settings.document
    configure_logs(settings)
    client = HttpClient()
    store = build_store(settings, client)
    fleet = Fleet(store, settings.fleet_secret, _workplace(settings))
    caches, spans = build_caches(settings, store), build_spans(settings)
    gateway = _gateway(settings, store, client, fleet, caches, spans=spans)
    queue, objects = build_queue(settings, client), build_objects(settings, client)
    bulk, files = Bulk(objects, room_of(settings)), Shelf(store, objects, document.files)
    keyring = Keyring(store, settings.keys, required=document.auth.mode == "keys")
    terms, channels, usher = _terms(document), Channels(), Usher(store, queue, _rooms(document))
    told = (webhooks := _webhooks(settings, store, keyring)).announcer
    shared = (store, queue, gateway, keyring, terms)
    driver = Driver(store, queue, files, bulk, document.batches, longest=document.request.max_body_bytes)
    errands = {BATCHES: Turns(store, queue, driver, told).take}
    runner = JobRunner(*shared, bulk=bulk, channels=channels, usher=usher, announcer=told, errands=errands)
    consumer = Consumer(queue, runner, concurrency=document.jobs.concurrency, grace=document.server.grace)
    submissions = Submissions(store, queue, gateway, terms, bulk=bulk, channels=channels, announcer=told)
    return House(
        *(settings, client, store, keyring, gateway.registry, fleet),
        *(gateway.ledger, gateway.prices, gateway.limiter),
        reaper=Reaper(store),
        prober=_prober(document, gateway.registry, gateway.router),
        gateway=gateway,
        queue=queue,
        objects=objects,
        jobs=submissions,
        follower=Follower(store, channels, bulk),
        repeats=Repeats(store, retention=terms.retention),
        runner=runner,
        inplace=InPlace(gateway, submissions, runner, consumer),
        pulled=PulledJobs(store, fleet, gateway, runner, Letters()),
        resender=Resender(store, queue, told),
        files=files,
        batches=Batches(store, queue, files),
        sweeper=Sweeper(store, objects, files, terms),
        usher=usher,
        consumer=consumer,
        webhooks=webhooks,
        caches=caches,
        memory=gateway.memory,
        vitals=(vitals := build_vitals(settings, store)),
        alerts=build_alerts(settings, store, client, vitals, gateway.router),
        templates=build_templates(settings),
        spans=spans,
        pool=Pool(settings.metrics_folder) if settings.metrics_folder else None,
        key_header=document.auth.api_key_header.lower().encode(),
    )


def build_runner(settings: Settings) -> tuple[House, JobRunner]:
    """What the job runner's door needs."""
    house = build(settings)
    return house, house.runner


def build_housekeeper(settings: Settings) -> tuple[House, Housekeeper]:
    """What the housekeeper's door needs."""
    house = build(settings)
    first = (house.store, house.reaper, house.resender)
    return house, Housekeeper(
        *first,
        usher=house.usher,
        prober=house.prober,
        sweeper=house.sweeper,
        courier=house.webhooks.courier,
        watchman=house.alerts.watchman if house.alerts.enabled else None,
    )


def _gateway(
    settings: Settings, store: Store, client: HttpClient, fleet: Fleet, caches: Caches | None, *, spans: Spans | None
) -> Gateway:
    document = settings.document
    configured, sources, spare = deployments(settings)
    connect = with_chaos(_connector(client), document.chaos_engineering)
    registry = ModelRegistry(store, configured, sources, connect, spare=spare, fleet=fleet)
    ledger = Ledger(store, immediate=bool(settings.door), tell=build_tell(spans))
    limiter = Limiter(store, _plan(settings), fail_open=document.limits.when_state_is_away == "open")
    return Gateway(
        *(registry, _router(document, store), ledger, limiter, Catalog(document.prices)),
        start=_starter(client),
        defers=any(place.cold_start is not None and place.cold_start.job for place in (*configured, *sources)),
        cache=caches.answers if caches is not None else None,
        memory=build_memory_guard(settings, caches),
        condenser=build_condenser(document, store, caches),
        attempts=document.request.attempts,
        cap=document.limits.max_tokens,
        classification=build_classification(settings, registry),
        tracer=build_tracer(settings),
        longest=document.request.max_prompt_tokens,
    )


def _webhooks(settings: Settings, store: Store, keyring: Keyring) -> WebhookDesk:
    """A door that answers callers is frozen with its answer: what is new waits for the housekeeper there."""
    section = settings.document.webhooks
    outlet = GuardedOutlet(section.allow_networks, allow_http=section.allow_http)
    return furnish(store, outlet, keyring, section, eager=settings.door in EAGER)


def _workplace(settings: Settings) -> Workplace:
    workers = settings.document.workers
    return Workplace(
        settings.credentials.get(workers.api_key_env or ""),
        workers.priority,
        workers.timeout,
        workers.first_token_timeout,
        workers.pass_priority,
    )


def _router(document: Document, store: Store) -> Router:
    breaker = document.circuit_breaker
    bounds = Bounds(breaker.failure_threshold, breaker.recovery_timeout, breaker.half_open_max_calls)
    return Router(document.routing.policy, bounds, store)


def _starter(client: HttpClient) -> Start:
    async def start(deployment: Deployment, deadline: float) -> None:
        url = deployment.cold_start.wake_url or "" if deployment.cold_start else ""
        response = await client.request("POST", url, headers=deployment.headers, deadline=deadline)
        await response.read()
        if response.status >= 400:
            raise UpstreamUnavailable(f"{url} answered {response.status} to the call that wakes {deployment.provider}")

    return start


def _prober(document: Document, registry: ModelRegistry, router: Router) -> Prober:
    check = document.health_check
    return Prober(
        *(registry, router),
        interval=check.interval,
        timeout=check.timeout,
        unhealthy_after=check.unhealthy_after,
        enabled=check.enabled,
    )


def _plan(settings: Settings) -> Plan:
    """The limits and budgets that hold here. A Lambda function may be frozen at any time, and so leases no money."""
    limits, budgets = settings.document.limits, settings.document.budgets
    plan = Plan(
        key_budget=budgets.key,
        owner_budget=budgets.owner,
        owner_budgets=budgets.owners,
        lease_from=limits.lease_from,
        long_lived=not settings.door,
    )
    if not limits.enabled:
        return plan
    return replace(
        plan,
        gateway=limits.gateway,
        endpoint=limits.endpoint,
        endpoints=limits.endpoints,
        models=limits.models,
        address=limits.address,
        key=limits.key,
        owner=limits.owner,
        owners=limits.owners,
    )


def _terms(document: Document) -> Terms:
    kept = document.jobs
    return Terms(kept.retention, kept.timeout, kept.attempts, kept.time_limit)


def _rooms(document: Document) -> dict[str, int]:
    """How many requests of a model may be under way, where that is limited."""
    limits = document.limits
    return {name: each.concurrency for name, each in limits.models.items() if limits.enabled and each.concurrency}


def _connector(client: HttpClient) -> Callable[[Deployment], Connection]:
    def connect(deployment: Deployment) -> Connection:
        profile = PROFILES.get(deployment.kind)
        plug = plugs.load("providers", profile.plug if profile else deployment.kind)
        connection: Connection = plug.connect(deployment, client)
        return connection

    return connect

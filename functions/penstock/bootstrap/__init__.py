"""Chooses the concrete parts of a process and puts them together; nobody else does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from penstock import plugs
from penstock.bootstrap.alerts import build_alerts
from penstock.bootstrap.backends import Ground, ground_of, lay_ground
from penstock.bootstrap.caches import build_caches, build_memory_guard
from penstock.bootstrap.chaos import with_chaos
from penstock.bootstrap.classification import build_classification
from penstock.bootstrap.condensing import build_condenser
from penstock.bootstrap.jobs import Others, build_jobs
from penstock.bootstrap.logs import configure_logs
from penstock.bootstrap.metrics import build_pool, build_spans, build_tell, build_tracer, build_vitals
from penstock.bootstrap.places import deployments
from penstock.bootstrap.templates import build_templates
from penstock.core.fleet import Fleet, Workplace
from penstock.core.gateway import Gateway
from penstock.core.guests import Guests
from penstock.core.health import Prober
from penstock.core.housekeeper import Housekeeper
from penstock.core.keys import Keyring
from penstock.core.limits.limiter import Limiter
from penstock.core.limits.reaper import Reaper
from penstock.core.limits.terms import Plan
from penstock.core.metering import Ledger
from penstock.core.ports import Connection, Store
from penstock.core.prices import Catalog
from penstock.core.registry import ModelRegistry
from penstock.core.routing.breaker import Bounds
from penstock.core.routing.router import Router
from penstock.core.routing.warming import Start
from penstock.core.webhooks.desk import WebhookDesk, furnish
from penstock.errors import UpstreamError, UpstreamProtocolError, UpstreamTimeout, UpstreamUnavailable
from penstock.house import House
from penstock.outbound import HttpClient
from penstock.outbound.outlet import GuardedOutlet
from penstock.providers._profiles import PROFILES
from penstock.schema.config import Document
from penstock.schema.model import Deployment
from penstock.settings import Settings

if TYPE_CHECKING:
    from penstock.core.cache.caches import Caches
    from penstock.tracing import Spans

COUNTED: dict[str, tuple[type[UpstreamError], ...]] = {
    "Exception": (UpstreamError,),
    "OSError": (UpstreamUnavailable, UpstreamProtocolError, UpstreamTimeout),
    "ConnectionError": (UpstreamUnavailable, UpstreamProtocolError),
    "TimeoutError": (UpstreamTimeout,),
}
"""What counts as a failure, by the name that ``circuit_breaker.expected_exception`` gives it."""
EAGER = ("", "job_runner")


def build(settings: Settings, before: House | None = None) -> House:
    """Put a process together; nothing is opened yet. Raises ``SettingsError``.

    A successor takes from the house ``before`` what outlives a configuration, and leaves it as it is.
    """
    document = settings.document
    if before is None:
        configure_logs(settings)
    ground = ground_of(before) if before else lay_ground(settings)
    client, store = ground.client, ground.store
    fleet = Fleet(store, settings.fleet_secret, _workplace(settings))
    caches, spans = build_caches(settings, store, before), build_spans(settings)
    gateway = _gateway(settings, ground, fleet, caches, before, spans=spans)
    keyring = Keyring(store, settings.keys, required=document.auth.mode == "keys")
    if before is not None:
        keyring.succeed(before.keyring)
    webhooks, guests = _webhooks(settings, store, keyring), Guests()
    work = build_jobs(settings, ground, Others(gateway, keyring, fleet, webhooks.announcer, guests), before)
    return House(
        *(settings, build, partial(configure_logs, settings), guests, client, store, keyring, gateway.registry, fleet),
        *(gateway.ledger, gateway.prices, gateway.limiter),
        reaper=Reaper(store),
        prober=_prober(document, gateway.registry, gateway.router),
        gateway=gateway,
        queue=ground.queue,
        objects=ground.objects,
        channels=ground.channels,
        webhooks=webhooks,
        caches=caches,
        memory=gateway.memory,
        vitals=(vitals := build_vitals(settings, store)),
        alerts=build_alerts(settings, store, client, vitals, gateway.router),
        templates=build_templates(settings),
        spans=spans,
        pool=before.pool if before else build_pool(settings),
        key_header=document.auth.api_key_header.lower().encode(),
        **work,
    )


def housekeeper_of(house: House) -> Housekeeper:
    """What the housekeeper's door needs."""
    first = (house.store, house.reaper, house.resender)
    return Housekeeper(
        *first,
        usher=house.usher,
        prober=house.prober,
        sweeper=house.sweeper,
        courier=house.webhooks.courier,
        watchman=house.alerts.watchman if house.alerts.enabled else None,
    )


def _gateway(
    settings: Settings,
    ground: Ground,
    fleet: Fleet,
    caches: Caches | None,
    before: House | None,
    *,
    spans: Spans | None,
) -> Gateway:
    client, store = ground.client, ground.store
    document = settings.document
    configured, sources, spare = deployments(settings)
    connect = with_chaos(_connector(client), document.chaos_engineering)
    registry = ModelRegistry(store, configured, sources, connect, spare=spare, fleet=fleet)
    ledger = Ledger(store, immediate=bool(settings.door), tell=build_tell(settings, spans))
    limiter = Limiter(store, _plan(settings), fail_open=document.limits.when_state_is_away == "open")
    router = _router(document, store)
    if before is not None:
        registry.succeed(before.registry)
        router.succeed(before.gateway.router)
    return Gateway(
        *(registry, router, ledger, limiter, Catalog(document.prices)),
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
    bounds = Bounds(
        breaker.failure_threshold,
        breaker.recovery_timeout,
        breaker.half_open_max_calls,
        COUNTED[breaker.expected_exception],
    )
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
        enabled=check.enabled and check.providers,
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


def _connector(client: HttpClient) -> Callable[[Deployment], Connection]:
    def connect(deployment: Deployment) -> Connection:
        profile = PROFILES.get(deployment.kind)
        plug = plugs.load("providers", profile.plug if profile else deployment.kind)
        connection: Connection = plug.connect(deployment, client)
        return connection

    return connect

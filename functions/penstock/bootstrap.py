"""Chooses the concrete parts of a process and puts them together; nobody else does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from penstock import plugs, telemetry
from penstock.core.batches.accepting import Batches
from penstock.core.batches.driver import Driver
from penstock.core.batches.turns import Turns
from penstock.core.files.shelf import Shelf
from penstock.core.fleet import Fleet, Workplace
from penstock.core.gateway import Gateway
from penstock.core.health import Prober
from penstock.core.housekeeper import Housekeeper
from penstock.core.jobs.bulk import ROOM, Bulk
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
from penstock.core.ports import Connection, Objects, Queue, Store
from penstock.core.prices import Catalog
from penstock.core.registry import ModelRegistry
from penstock.core.routing.breaker import Bounds
from penstock.core.routing.router import Router
from penstock.core.routing.warming import Start
from penstock.core.sweeper import Sweeper
from penstock.core.webhooks.desk import WebhookDesk, furnish
from penstock.errors import SettingsError, UpstreamUnavailable
from penstock.house import House
from penstock.outbound import HttpClient
from penstock.outbound.outlet import GuardedOutlet
from penstock.providers._posted import Letters
from penstock.providers._profiles import PROFILES, region_in
from penstock.schema.batch import ENDPOINT as BATCHES
from penstock.schema.config import Document, Provider
from penstock.schema.model import Deployment
from penstock.settings import DEFAULT_STATE, Settings, fault

SIMULATED = "simulated"
EAGER = ("", "job_runner")


def build(settings: Settings) -> House:
    """Put a process together; nothing is opened yet. Raises ``SettingsError``."""
    document = settings.document
    telemetry.configure(document.logging.level, document.logging.format)
    client = HttpClient()
    store = build_store(settings, client)
    fleet = Fleet(store, settings.fleet_secret, _workplace(settings))
    gateway = _gateway(settings, store, client, fleet)
    queue, objects = build_queue(settings, client), build_objects(settings, client)
    bulk, files = Bulk(objects, _room(settings)), Shelf(store, objects, document.files)
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
        settings=settings,
        client=client,
        store=store,
        keyring=keyring,
        registry=gateway.registry,
        fleet=fleet,
        ledger=gateway.ledger,
        prices=gateway.prices,
        limiter=gateway.limiter,
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
        key_header=document.auth.api_key_header.lower().encode(),
    )


def build_store(settings: Settings, client: HttpClient) -> Store:
    """The store of ``state_url``, not yet open. Raises ``SettingsError`` for an address that none understands."""
    scheme = settings.state_url.partition(":")[0]
    if scheme not in plugs.names("stores"):
        raise SettingsError(
            f"{settings.state_url!r} names no store: write sqlite:///path.db or dynamodb://prefix",
            setting="PENSTOCK_STATE_URL",
        )
    connect: Callable[[str, HttpClient], Store] = plugs.load("stores", scheme).connect
    try:
        return connect(settings.state_url, client)
    except ValueError as error:
        raise SettingsError(str(error), setting="PENSTOCK_STATE_URL") from None


def build_queue(settings: Settings, client: HttpClient) -> Queue:
    """The queue of ``queue_url``, not yet open. Raises ``SettingsError`` for an address that none understands."""
    url = settings.queue_url or _beside(settings.state_url)
    scheme = url.partition(":")[0]
    if scheme not in plugs.names("queues"):
        raise SettingsError(
            f"{url!r} names no queue: write sqlite:///path.db or sqs://host/account/name",
            setting="PENSTOCK_QUEUE_URL",
        )
    connect: Callable[[str, HttpClient], Queue] = plugs.load("queues", scheme).connect
    return connect(url, client)


def build_objects(settings: Settings, client: HttpClient) -> Objects | None:
    """The place of ``objects_url``, not yet open. Raises ``SettingsError`` for an address that none understands."""
    url = settings.objects_url
    if not url:
        if not settings.state_url.startswith("sqlite:///"):
            return None
        path = Path(settings.state_url.removeprefix("sqlite:///").removesuffix(".db") + ".objects")
        url = f"file://{path.absolute()}"
    scheme = url.partition(":")[0]
    if scheme not in plugs.names("objects"):
        raise SettingsError(
            f"{url!r} names no place for objects: write file:///absolute/path or s3://bucket/prefix",
            setting="PENSTOCK_OBJECTS_URL",
        )
    connect: Callable[[str, HttpClient], Objects] = plugs.load("objects", scheme).connect
    return connect(url, client)


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
    )


def _gateway(settings: Settings, store: Store, client: HttpClient, fleet: Fleet) -> Gateway:
    document = settings.document
    configured, sources, spare = _deployments(settings)
    registry = ModelRegistry(store, configured, sources, _connector(client), spare=spare, fleet=fleet)
    ledger = Ledger(store, immediate=bool(settings.door), tell=telemetry.tell)
    limiter = Limiter(store, _plan(settings), fail_open=document.limits.when_state_is_away == "open")
    return Gateway(
        *(registry, _router(document, store), ledger, limiter, Catalog(document.prices)),
        start=_starter(client),
        defers=any(place.cold_start is not None and place.cold_start.job for place in (*configured, *sources)),
        attempts=document.request.attempts,
        cap=document.limits.max_tokens,
    )


def _beside(state_url: str) -> str:
    """The queue that belongs to a state: a file beside its file, else in the usual folder."""
    state = state_url if state_url.startswith("sqlite:///") else DEFAULT_STATE
    return state.removesuffix(".db") + ".queue.db"


def _room(settings: Settings) -> int:
    """Bytes of a document that a record of this store should hold at most."""
    room: int = getattr(plugs.load("stores", settings.state_url.partition(":")[0]), "ROOM", ROOM)
    return room


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


def _deployments(settings: Settings) -> tuple[list[Deployment], list[Deployment], list[Deployment]]:
    """Deployments with a fixed model, providers to be asked for theirs, and what answers when nobody else does."""
    providers = settings.document.providers
    if providers is None:
        return [], _around(settings), [_simulated()]
    configured: list[Deployment] = []
    sources: list[Deployment] = []
    for number, provider in enumerate(providers):
        if not provider.enabled:
            continue
        base = _from_provider(provider, number, settings)
        for model in provider.models:
            name, upstream = (model, model) if isinstance(model, str) else (model.name, model.upstream)
            configured.append(_serving(base, name, upstream))
        if not provider.models:
            sources.append(base)
    return configured, sources, []


def _from_provider(provider: Provider, number: int, settings: Settings) -> Deployment:
    profile = PROFILES.get(provider.type)

    def wrong(key: str, message: str) -> SettingsError:
        return fault(settings.config_path, ["providers", number, key], message)

    if profile is None and provider.type not in plugs.names("providers"):
        known = ", ".join(sorted({*PROFILES, *plugs.names("providers")}))
        raise wrong("type", f"{provider.type!r} is not known; there are {known}")
    base_url = provider.base_url or (profile.base_url if profile else "")
    if not base_url and profile:
        raise wrong("base_url", f"type {provider.type!r} has no usual address: give one")
    if provider.options and profile and not profile.regional:
        raise wrong("options", f"type {provider.type!r} has no options")
    key_env = provider.api_key_env or (profile.key_env if profile else "")
    place = Deployment(
        id=provider.name,
        model="",
        provider=provider.name,
        kind=provider.type,
        upstream_model="",
        base_url=base_url,
        credential=settings.credentials.get(key_env),
        headers=tuple(provider.custom_headers.items()),
        priority=provider.priority,
        forced=provider.forced,
        weight=provider.weight,
        retries=provider.max_retries,
        retry_delay=provider.retry_delay,
        cold_start=provider.cold_start,
        timeout=provider.timeout,
        connect_timeout=provider.connect_timeout,
        first_token_timeout=provider.first_token_timeout,
        options=tuple(provider.options.items()),
    )
    if not (profile and profile.regional):
        return place
    try:
        return _in_region(place, settings.region)
    except ValueError as error:
        raise wrong("options", f"type {provider.type!r} {error}") from None


def _in_region(place: Deployment, usual: str) -> Deployment:
    """The place where its options say that it is, or its address, or the ``usual``. Raises ``ValueError``."""
    options = dict(place.options)
    region = options.pop("region", None) or region_in(place.base_url) or usual
    if options or not isinstance(region, str):
        raise ValueError("has one option: {region: eu-west-1}")
    if not region:
        raise ValueError("is in no region: write {region: eu-west-1}, or set AWS_REGION")
    return replace(place, base_url=place.base_url.replace("{region}", region), options=(("region", region),))


def _around(settings: Settings) -> list[Deployment]:
    """Without configuration: engines on their usual local ports, and vendors whose key is in the environment."""
    own = settings.document.server.port
    found = []
    for profile in PROFILES.values():
        if profile.port and profile.port != own:
            url = f"http://127.0.0.1:{profile.port}/v1"
            found.append(Deployment(profile.name, "", profile.name, profile.name, "", url))
        elif profile.key_env in settings.credentials and not any(place.base_url == profile.base_url for place in found):
            credential = settings.credentials[profile.key_env]
            place = Deployment(
                *(profile.name, "", profile.name, profile.name, "", profile.base_url, credential), priority=2
            )
            if not profile.regional:
                found.append(place)
            elif settings.region:
                found.append(_in_region(place, settings.region))
    return found


def _simulated() -> Deployment:
    return Deployment("simulated/echo", "simulated/echo", SIMULATED, SIMULATED, "echo", "")


def _serving(base: Deployment, name: str, upstream: str) -> Deployment:
    return replace(base, id=f"{base.provider}/{name}", model=name, upstream_model=upstream)

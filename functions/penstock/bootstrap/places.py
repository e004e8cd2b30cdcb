"""The deployments that configuration names, or that are found around where it names none."""

from __future__ import annotations

from dataclasses import replace

from penstock import plugs
from penstock.errors import SettingsError
from penstock.providers._profiles import PROFILES, region_in
from penstock.schema.config import Model, Provider
from penstock.schema.http_section import USUAL, HttpSection, Wire
from penstock.schema.model import Deployment
from penstock.settings import Settings, fault

SIMULATED = "simulated"
_PATHLESS = "of this type, each model needs a path: {name: musicgen, path: /generate}"


def deployments(settings: Settings) -> tuple[list[Deployment], list[Deployment], list[Deployment]]:
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
        models = [Model(model, model) if isinstance(model, str) else model for model in provider.models]
        foreign = provider.type in PROFILES and PROFILES[provider.type].foreign
        if foreign and not (models and all(model.path for model in models)):
            raise fault(settings.source, ["providers", number, "models"], _PATHLESS)
        configured += [_serving(base, model) for model in models]
        if not provider.models:
            sources.append(base)
    return configured, sources, []


def _from_provider(provider: Provider, number: int, settings: Settings) -> Deployment:
    profile = PROFILES.get(provider.type)

    def wrong(key: str, message: str) -> SettingsError:
        return fault(settings.source, ["providers", number, key], message)

    if profile is None and provider.type not in plugs.names("providers"):
        known = ", ".join(sorted({*PROFILES, *plugs.names("providers")}))
        raise wrong("type", f"{provider.type!r} is not known; there are {known}")
    base_url = provider.base_url or (profile.base_url if profile else "")
    if not base_url and profile:
        raise wrong("base_url", f"type {provider.type!r} has no usual address: give one")
    if provider.options and profile and not profile.regional:
        raise wrong("options", f"type {provider.type!r} has no options")
    client = settings.document.http_client
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
        pass_priority=provider.pass_priority,
        retries=provider.max_retries,
        retry_delay=provider.retry_delay,
        cold_start=provider.cold_start,
        timeout=_said(provider.timeout, client.timeout),
        connect_timeout=_said(provider.connect_timeout, client.connect_timeout),
        first_token_timeout=provider.first_token_timeout,
        wire=_wire(provider, client),
        options=tuple(provider.options.items()),
    )
    if not (profile and profile.regional):
        return place
    try:
        return _in_region(place, settings.region)
    except ValueError as error:
        raise wrong("options", f"type {provider.type!r} {error}") from None


def _said(own: float | None, usual: float) -> float:
    return usual if own is None else own


def _wire(provider: Provider, client: HttpSection) -> Wire:
    """How connections to a provider are kept; one pool for all of whom nothing is said."""
    pool = client.pool_limits
    most = pool.max_connections if provider.max_connections is None else provider.max_connections
    idle = pool.max_keepalive_connections
    if provider.max_keepalive_connections is not None:
        idle = provider.max_keepalive_connections
    wire = Wire("", most, idle, _said(provider.keepalive_expiry, pool.keepalive_timeout), client.read_timeout)
    return wire if wire == USUAL else wire._replace(provider=provider.name)


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


def _serving(base: Deployment, model: Model) -> Deployment:
    place = f"{base.provider}/{model.name}"
    return replace(base, id=place, model=model.name, upstream_model=model.upstream or model.name, path=model.path)

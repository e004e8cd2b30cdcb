"""Which store, which queue and which place for large documents: chosen by the scheme of their addresses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from penstock import plugs
from penstock.core.jobs.bulk import ROOM
from penstock.core.jobs.recording import Channels
from penstock.core.ports import Objects, Queue, Store
from penstock.errors import SettingsError
from penstock.house import House
from penstock.outbound import HttpClient
from penstock.settings import DEFAULT_STATE, Settings


class Ground(NamedTuple):
    """What the houses of one process all stand on."""

    client: HttpClient
    store: Store
    queue: Queue
    objects: Objects | None
    channels: Channels


def lay_ground(settings: Settings) -> Ground:
    """The ground of the first house, not yet open. Raises ``SettingsError``."""
    client = HttpClient()
    backends = build_store(settings, client), build_queue(settings, client), build_objects(settings, client)
    return Ground(client, *backends, Channels())


def ground_of(house: House) -> Ground:
    """What a house stands on."""
    return Ground(house.client, house.store, house.queue, house.objects, house.channels)


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


def room_of(settings: Settings) -> int:
    """Bytes of a document that a record of this store should hold at most."""
    room: int = getattr(plugs.load("stores", settings.state_url.partition(":")[0]), "ROOM", ROOM)
    return room


def _beside(state_url: str) -> str:
    """The queue that belongs to a state: a file beside its file, else in the usual folder."""
    state = state_url if state_url.startswith("sqlite:///") else DEFAULT_STATE
    return state.removesuffix(".db") + ".queue.db"

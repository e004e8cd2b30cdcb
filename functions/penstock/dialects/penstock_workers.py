"""``/v1/workers``: GPU workers register, say what they have to do, and leave; operators see them."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from penstock.core.keys import record_act
from penstock.dialects._exchange import LazyRouter
from penstock.dialects._fleet import Name, Signed, signed
from penstock.dialects._guard import Administrator, Here, administrator
from penstock.errors import InvalidRequest, NotFound
from penstock.schema.model import MODEL_NAME
from penstock.schema.worker import LEASE, Load, Worker

router = LazyRouter(prefix="/v1/workers", tags=["workers"])

BEAT = LEASE / 3
"""Seconds between two heartbeats: two may be lost."""

ITSELF = "worker"

Text = Annotated[str, Field(max_length=200)]
Count = Annotated[int, Field(ge=0, le=10**9)]
Url = Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+/?$", max_length=300)]


class LoadFields(BaseModel):
    """What the engine has to do: ``kv_use`` from 0 to 1, ``capacity`` the requests that it runs at a time."""

    model_config = ConfigDict(extra="forbid", strict=True)

    running: Count = 0
    waiting: Count = 0
    kv_use: Annotated[float, Field(ge=0, le=1)] = 0.0
    capacity: Count = 0


class Hardware(BaseModel):
    """The GPUs of a worker; memory of each in MiB."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Text = ""
    memory: Count = 0
    count: Count = 0


class Registration(BaseModel):
    """A worker as it describes itself. ``generation`` is its agent's process, ``url`` where its engine answers.

    One that is to ``pull`` cannot be called, and has no url: it asks for jobs.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Name
    generation: Name
    url: Url | None = None
    pull: bool = False
    models: Annotated[list[Text], Field(min_length=1, max_length=100)]
    state: Literal["starting", "ready", "draining"] = "ready"
    engine: Literal["sglang", "vllm", "openai", "infinilm"] = "sglang"
    engine_version: Text = ""
    gpu: Hardware = Field(default_factory=Hardware)
    load: LoadFields = Field(default_factory=LoadFields)


class Heartbeat(BaseModel):
    """A worker's word that it is there."""

    model_config = ConfigDict(extra="forbid", strict=True)

    generation: Name
    state: Literal["starting", "ready", "draining"] = "ready"
    load: LoadFields = Field(default_factory=LoadFields)


async def worker_or_administrator(request: Request, house: Here) -> str:
    """Who drains a worker: itself, by its signature, or an administrator."""
    if "x-penstock-signature" not in request.headers:
        return await administrator(request)
    await signed(request, house)
    return ITSELF


WhoDrains = Annotated[str, Depends(worker_or_administrator)]


@router.post("", status_code=201, dependencies=[Signed], summary="Register a worker")
async def register(worker: Registration, house: Here) -> dict[str, Any]:
    """Take a worker in; requests come to it from now on, if it is ready."""
    odd = [model for model in worker.models if not MODEL_NAME.fullmatch(model)]
    if odd:
        raise InvalidRequest(f"models: {odd[0]!r} cannot be the name of a model.", param="models")
    if (worker.url is None) is not worker.pull:
        raise InvalidRequest("Give the url where the engine answers, or else 'pull': true.", param="url")
    now = time.time()
    made = await house.fleet.register(
        Worker(
            id=worker.id,
            generation=worker.generation,
            url=worker.url or "",
            pulls=worker.pull,
            models=tuple(worker.models),
            state=worker.state,
            engine=worker.engine,
            engine_version=worker.engine_version,
            gpu=worker.gpu.name,
            gpu_memory=worker.gpu.memory,
            gpus=worker.gpu.count,
            **worker.load.model_dump(),
            registered_at=now,
            lease_until=now + LEASE,
        )
    )
    return _shown(made)


@router.post("/{worker_id}/heartbeat", dependencies=[Signed], summary="Say that a worker is there")
async def beat(worker_id: str, word: Heartbeat, house: Here) -> dict[str, Any]:
    """Renew the lease. 404 tells the worker to register anew; ``state`` may tell it that it is draining."""
    told = await house.fleet.beat(worker_id, word.generation, word.state, Load(**word.load.model_dump()))
    if told is None:
        raise NotFound(f"There is no worker {worker_id!r} of this generation: register it.", param="worker_id")
    return _shown(told)


@router.post("/{worker_id}/drain", summary="Send a worker no more requests")
async def drain(worker_id: str, house: Here, actor: WhoDrains) -> dict[str, Any]:
    """What a worker says before it ends its engine, or an operator of it; what has begun is ended."""
    if actor != ITSELF:
        await record_act(house.store, actor, "drain worker", worker_id)
    return _shown(_known(await house.fleet.drain(worker_id), worker_id))


@router.get("", summary="List workers")
async def list_workers(house: Here, actor: Administrator) -> dict[str, Any]:
    """Every worker with its state and load; those that are gone for an hour more."""
    return {"object": "list", "data": [_shown(worker) for worker in await house.fleet.workers()]}


def _known(worker: Worker | None, worker_id: str) -> Worker:
    if worker is None:
        raise NotFound(f"There is no worker {worker_id!r}.", param="worker_id")
    return worker


def _shown(worker: Worker) -> dict[str, Any]:
    return {
        "id": worker.id,
        "object": "worker",
        "state": worker.state_at(time.time()),
        "url": worker.url or None,
        "pull": worker.pulls,
        "models": worker.models,
        "engine": worker.engine,
        "engine_version": worker.engine_version,
        "gpu": {"name": worker.gpu, "memory": worker.gpu_memory, "count": worker.gpus},
        "load": {
            "running": worker.running,
            "waiting": worker.waiting,
            "kv_use": worker.kv_use,
            "capacity": worker.capacity,
        },
        "registered_at": worker.registered_at,
        "lease_until": worker.lease_until,
        "heartbeat": BEAT,
    }
